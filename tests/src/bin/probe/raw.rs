//! System calls by number. An attacker is not held back by safe wrappers, so this program must not be either. Never shipped.

#![expect(unsafe_code, reason = "an attacker makes raw system calls; this program is only for tests")]

use nix::libc;
use std::io;

/// One system call.
pub fn call(number: libc::c_long, args: [usize; 6]) -> io::Result<i64> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: every caller passes numbers, null, or pointers to buffers that it owns and that outlive the call; what the kernel
    // writes stays within the lengths given.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The address of something that outlives the call.
pub fn address<T: ?Sized>(of: &T) -> usize {
    std::ptr::from_ref(of).cast::<u8>() as usize
}

/// `Ok` when the call got past every permission check, even if it then failed over its arguments.
pub fn reached(number: libc::c_long, args: [usize; 6]) -> io::Result<String> {
    const DENIED: [i32; 3] = [libc::EPERM, libc::EACCES, libc::ENOSYS];
    match call(number, args) {
        Ok(value) => Ok(format!("returned {value}")),
        Err(error) if error.raw_os_error().is_some_and(|code| DENIED.contains(&code)) => Err(error),
        Err(error) => Ok(format!("not refused, only failed over its arguments: {error}")),
    }
}
