//! System calls that no tool and no worker has a use for. Arguments are harmless: being let through to them is the evidence.

use super::{Probe, all, files, raw};
use nix::libc;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

fn unshare(flags: i32) -> io::Result<String> {
    raw::call(libc::SYS_unshare, [flags as usize, 0, 0, 0, 0, 0])
        .map(|_| "has a namespace of its own".to_owned())
}

fn namespace(name: &str, flag: i32) -> io::Result<String> {
    let file = std::fs::File::open(format!("/proc/self/ns/{name}"))?;
    let args = [file.as_raw_fd() as usize, flag as usize, 0, 0, 0, 0];
    match raw::call(libc::SYS_setns, args) {
        // Joining one's own user namespace is never allowed, but only checked after all rights.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok("was let through".to_owned()),
        result => result.map(|_| "joined a namespace".to_owned()),
    }
}

fn mount(workspace: &Path) -> io::Result<String> {
    let (target, kind) = (files::c_path(workspace), c"tmpfs");
    let name = raw::address(kind);
    // A flag that the kernel refuses after the check of rights, so that nothing is ever mounted.
    let both = (libc::MS_SHARED | libc::MS_PRIVATE) as usize;
    raw::reached(libc::SYS_mount, [name, raw::address(target.as_c_str()), name, both, 0, 0])
}

fn tty(request: u64, argument: usize) -> io::Result<String> {
    let master = OpenOptions::new().read(true).write(true).open("/dev/ptmx")?;
    let fd = master.as_raw_fd() as usize;
    let unlock = 0i32;
    raw::call(libc::SYS_ioctl, [fd, libc::TIOCSPTLCK as usize, raw::address(&unlock), 0, 0, 0])?;
    let flags = (libc::O_RDWR | libc::O_CLOEXEC) as usize;
    let slave = raw::call(libc::SYS_ioctl, [fd, libc::TIOCGPTPEER as usize, flags, 0, 0, 0])? as usize;
    let _own_session = nix::unistd::setsid();
    let _controls = raw::call(libc::SYS_ioctl, [slave, libc::TIOCSCTTY as usize, 0, 0, 0, 0]);
    raw::call(libc::SYS_ioctl, [slave, request as usize, argument, 0, 0, 0])?;
    Ok("the terminal took it".to_owned())
}

pub const ALL: &[Probe] = &[
    all("unshare-user", "makes a user namespace, where it would be root", |_| unshare(libc::CLONE_NEWUSER)),
    all("unshare-mount", "makes a mount namespace", |_| unshare(libc::CLONE_NEWNS)),
    all("unshare-pid", "makes a pid namespace", |_| unshare(libc::CLONE_NEWPID)),
    all("unshare-net", "makes a network namespace", |_| unshare(libc::CLONE_NEWNET)),
    all("clone-user", "starts a process in a user namespace of its own", |_| {
        let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as usize;
        let made = raw::call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0])?;
        if made == 0 {
            std::process::exit(0);
        }
        Ok("started one".to_owned())
    }),
    all("clone3-user", "the same by clone3, whose flags a filter cannot see", |_| {
        // struct clone_args: flags, then pidfd, child_tid, parent_tid, exit_signal, …
        let mut args = [0u64; 11];
        args[0] = libc::CLONE_NEWUSER as u64;
        args[4] = libc::SIGCHLD as u64;
        let made = raw::call(libc::SYS_clone3, [raw::address(&args), size_of_val(&args), 0, 0, 0, 0])?;
        if made == 0 {
            std::process::exit(0);
        }
        Ok("started one".to_owned())
    }),
    all("setns-user", "joins a user namespace", |_| namespace("user", libc::CLONE_NEWUSER)),
    all("setns-mount", "joins a mount namespace", |_| namespace("mnt", libc::CLONE_NEWNS)),
    all("setns-net", "joins a network namespace", |_| namespace("net", libc::CLONE_NEWNET)),
    all("mount", "mounts a file system", |p| mount(&p.workspace)),
    all("umount", "unmounts a file system", |_| {
        let nowhere = c"/no/such/mount";
        raw::reached(libc::SYS_umount2, [raw::address(nowhere), 0, 0, 0, 0, 0])
    }),
    all("pivot-root", "exchanges the root", |_| {
        let nowhere = raw::address(c"/no/such/root");
        raw::reached(libc::SYS_pivot_root, [nowhere, nowhere, 0, 0, 0, 0])
    }),
    all("chroot", "changes the root", |_| {
        raw::call(libc::SYS_chroot, [raw::address(c"/usr"), 0, 0, 0, 0, 0]).map(|_| "did".to_owned())
    }),
    all("fsopen", "makes a file system by the newer calls", |_| {
        raw::reached(libc::SYS_fsopen, [raw::address(c"tmpfs"), 0, 0, 0, 0, 0])
    }),
    all("open-tree", "copies a mount", |_| {
        let at = libc::AT_FDCWD as usize;
        let clone = 1;
        raw::reached(libc::SYS_open_tree, [at, raw::address(c"/usr"), clone, 0, 0, 0])
    }),
    all("mount-setattr", "changes the attributes of a mount", |_| {
        let at = libc::AT_FDCWD as usize;
        let attributes = [0u64; 4];
        let bytes = size_of_val(&attributes);
        raw::reached(
            libc::SYS_mount_setattr,
            [at, raw::address(c"/"), 0, raw::address(&attributes), bytes, 0],
        )
    }),
    all("bpf", "loads a program into the kernel", |_| {
        let attributes = [0u64; 16];
        raw::reached(libc::SYS_bpf, [5, raw::address(&attributes), size_of_val(&attributes), 0, 0, 0])
    }),
    all("perf", "opens a performance counter", |_| {
        // struct perf_event_attr: type, size, config: a software clock of this process.
        let mut attributes = [0u32; 32];
        (attributes[0], attributes[1]) = (1, 128);
        let any = usize::MAX;
        raw::reached(libc::SYS_perf_event_open, [raw::address(&attributes), 0, any, any, 0, 0])
    }),
    all("userfaultfd", "answers the kernel's page faults", |_| {
        raw::reached(libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0])
    }),
    all("io-uring", "makes system calls that a filter does not see", |_| {
        let mut parameters = [0u32; 30];
        raw::reached(libc::SYS_io_uring_setup, [4, parameters.as_mut_ptr() as usize, 0, 0, 0, 0])
    }),
    all("keyctl", "reads the session's keys", |_| {
        raw::reached(libc::SYS_keyctl, [0, usize::MAX - 2, 0, 0, 0, 0])
    }),
    all("add-key", "adds a key to the session's keys", |_| {
        let (kind, name) = (raw::address(c"user"), raw::address(c"openclaw-probe"));
        let process_keyring = usize::MAX - 1;
        raw::reached(libc::SYS_add_key, [kind, name, raw::address("x"), 1, process_keyring, 0])
    }),
    all("request-key", "asks for a key", |_| {
        let (kind, name) = (raw::address(c"user"), raw::address(c"openclaw-probe"));
        raw::reached(libc::SYS_request_key, [kind, name, 0, 0, 0, 0])
    }),
    all("kexec", "loads another kernel", |_| raw::reached(libc::SYS_kexec_load, [0, 17, 1, 0, 0, 0])),
    all("kexec-file", "loads another kernel from a file", |_| {
        let none = usize::MAX;
        raw::reached(libc::SYS_kexec_file_load, [none, none, 0, 0, 0xffff, 0])
    }),
    all("init-module", "loads a kernel module", |_| raw::reached(libc::SYS_init_module, [0; 6])),
    all("finit-module", "loads a kernel module from a file", |_| {
        raw::reached(libc::SYS_finit_module, [usize::MAX, 0, 0xffff, 0, 0, 0])
    }),
    all("delete-module", "removes a kernel module", |_| {
        raw::reached(libc::SYS_delete_module, [raw::address(c"openclaw_no_such_module"), 0, 0, 0, 0, 0])
    }),
    all("personality", "turns off the randomness of addresses", |_| {
        raw::call(libc::SYS_personality, [0x0040000, 0, 0, 0, 0, 0]).map(|_| "did".to_owned())
    }),
    all("swapon", "uses a file as swap", |_| {
        raw::reached(libc::SYS_swapon, [raw::address(c"/no/such/swap"), 0, 0, 0, 0, 0])
    }),
    all("swapoff", "turns off swap", |_| {
        raw::reached(libc::SYS_swapoff, [raw::address(c"/no/such/swap"), 0, 0, 0, 0, 0])
    }),
    // Without the magic numbers, which come after the check of rights.
    all("reboot", "restarts the machine", |_| raw::reached(libc::SYS_reboot, [0; 6])),
    all("acct", "has the kernel write a file at every process's end", |_| {
        raw::reached(libc::SYS_acct, [raw::address(c"/no/such/file"), 0, 0, 0, 0, 0])
    }),
    all("quotactl", "changes quotas", |_| {
        let (set_limits, nowhere) = (0x800008usize << 8, raw::address(c"/no/such/device"));
        raw::reached(libc::SYS_quotactl, [set_limits, nowhere, 0, 0, 0, 0])
    }),
    all("clock", "sets the host's clock", |_| {
        // struct timex with only ADJ_TICK: the tick that it has.
        let mut times = [0u64; 32];
        raw::call(libc::SYS_adjtimex, [times.as_mut_ptr() as usize, 0, 0, 0, 0, 0])?;
        times[0] = 0x4000;
        raw::call(libc::SYS_adjtimex, [times.as_mut_ptr() as usize, 0, 0, 0, 0, 0])
            .map(|_| "set the tick".to_owned())
    }),
    all("hostname", "renames the host", |_| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
        let name = name.trim_end();
        raw::reached(libc::SYS_sethostname, [raw::address(name), name.len(), 0, 0, 0, 0])
    }),
    all("kernel-log", "clears the kernel's log", |_| {
        // Action 8 with a level that is refused after the check of rights.
        raw::reached(libc::SYS_syslog, [8, 0, 99, 0, 0, 0])
    }),
    #[cfg(target_arch = "x86_64")]
    all("ioperm", "talks to hardware ports", |_| raw::reached(libc::SYS_ioperm, [0x80, 1, 1, 0, 0, 0])),
    #[cfg(target_arch = "x86_64")]
    all("iopl", "talks to every hardware port", |_| raw::reached(libc::SYS_iopl, [3, 0, 0, 0, 0, 0])),
    all("tiocsti", "types into the operator's terminal", |_| tty(libc::TIOCSTI, raw::address("x"))),
    all("tioclinux", "pastes into the console", |_| {
        let paste = [3u8; 16];
        let console = OpenOptions::new()
            .read(true)
            .open("/dev/tty0")
            .or_else(|_| OpenOptions::new().read(true).open("/dev/console"))?;
        let args = [console.as_raw_fd() as usize, libc::TIOCLINUX as usize, raw::address(&paste), 0, 0, 0];
        raw::call(libc::SYS_ioctl, args).map(|_| "the console took it".to_owned())
    }),
];
