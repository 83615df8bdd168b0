//! Modes, times, owners and flags of files that are not ours, by every call that sets them; and set-id bits by every call that
//! makes a file. Each sets what is there already, so that a hole breaks nothing.

use super::files::c_path;
use super::{Probe, all, raw};
use harness::escape::Plan;
use nix::libc;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const HERE: usize = libc::AT_FDCWD as usize;
/// Numbers that libc has not on every target.
const FCHMODAT2: libc::c_long = 452;
const SETXATTRAT: libc::c_long = 463;
const FILE_SETATTR: libc::c_long = 469;
/// How long a link is changed under a call's feet.
const RACE: Duration = Duration::from_millis(500);

fn did(what: &str) -> impl Fn(i64) -> String {
    let what = what.to_owned();
    move |_| what.clone()
}

fn mode_of(path: &Path) -> io::Result<usize> {
    Ok(fs::metadata(path)?.mode() as usize & 0o777)
}

fn chmod_at(path: &Path, mode: usize) -> io::Result<i64> {
    raw::call(libc::SYS_fchmodat, [HERE, raw::address(c_path(path).as_c_str()), mode, 0, 0, 0])
}

fn path_descriptor(path: &Path) -> io::Result<usize> {
    let flags = (libc::O_PATH | libc::O_CLOEXEC) as usize;
    let path = c_path(path);
    raw::call(libc::SYS_openat, [HERE, raw::address(path.as_c_str()), flags, 0, 0, 0]).map(|fd| fd as usize)
}

/// A file of the system that everybody may read, and that is the attacker's by nobody's leave.
fn readable() -> io::Result<File> {
    File::open("/etc/passwd").or_else(|_| File::open("/usr/bin/env"))
}

fn fresh(plan: &Plan, name: &str) -> PathBuf {
    let path = plan.workspace.join(format!("probe-{name}"));
    let _not_there = fs::remove_file(&path);
    path
}

/// Whether a file that was made has a set-id bit.
fn has_bit(path: &Path) -> io::Result<String> {
    let mode = fs::metadata(path)?.mode();
    fs::remove_file(path)?;
    if mode & 0o6000 == 0 {
        Err(io::Error::other("the bit was dropped"))
    } else {
        Ok(format!("mode {mode:o}"))
    }
}

/// Lets a link point to a file of its own and to the configuration by turns, while another thread sets modes through it.
fn race(plan: &Plan) -> io::Result<String> {
    let refused = |_| io::Error::from_raw_os_error(libc::EACCES);
    let (own, link, other) = (fresh(plan, "race"), fresh(plan, "race-link"), fresh(plan, "race-other"));
    fs::write(&own, "x").map_err(refused)?;
    let config = plan.file("config").to_owned();
    let (mode, before) = (mode_of(&config)?, fs::metadata(&config)?);
    let end = Instant::now() + RACE;
    let (swapped, target, at) = (link.clone(), config.clone(), other);
    symlink(&own, &link).map_err(refused)?;
    let swapping = std::thread::spawn(move || {
        while Instant::now() < end {
            for to in [&target, &own] {
                let _again = symlink(to, &at).and_then(|()| fs::rename(&at, &swapped));
            }
        }
    });
    while Instant::now() < end {
        let _either = chmod_at(&link, mode);
    }
    let _ended = swapping.join();
    let after = fs::metadata(&config)?;
    if (before.ctime(), before.ctime_nsec()) == (after.ctime(), after.ctime_nsec()) {
        return Err(io::Error::other("the configuration was not touched"));
    }
    Ok("changed it in a race".to_owned())
}

pub const ALL: &[Probe] = &[
    #[cfg(target_arch = "x86_64")]
    all("chmod-by-chmod", "opens the configuration to everybody by the oldest call", |p| {
        let (path, mode) = (c_path(p.file("config")), mode_of(p.file("config"))?);
        let args = [raw::address(path.as_c_str()), mode, 0, 0, 0, 0];
        raw::call(libc::SYS_chmod, args).map(did("changed its mode"))
    }),
    all("chmod-by-fchmodat2", "does so by the newest call", |p| {
        let (path, mode) = (c_path(p.file("config")), mode_of(p.file("config"))?);
        let args = [HERE, raw::address(path.as_c_str()), mode, 0, 0, 0];
        raw::call(FCHMODAT2, args).map(did("changed its mode"))
    }),
    all("chmod-by-empty-path", "does so through a descriptor without rights", |p| {
        let (fd, mode) = (path_descriptor(p.file("config"))?, mode_of(p.file("config"))?);
        let empty = libc::AT_EMPTY_PATH as usize;
        raw::call(FCHMODAT2, [fd, raw::address(c""), mode, empty, 0, 0]).map(did("changed its mode"))
    }),
    all("chmod-by-proc", "does so through /proc/self/fd", |p| {
        let (fd, mode) = (path_descriptor(p.file("config"))?, mode_of(p.file("config"))?);
        chmod_at(Path::new(&format!("/proc/self/fd/{fd}")), mode).map(did("changed its mode"))
    }),
    all("chmod-by-own-proc", "does so through /proc/<pid>/fd", |p| {
        let (fd, mode) = (path_descriptor(p.file("config"))?, mode_of(p.file("config"))?);
        let path = format!("/proc/{}/fd/{fd}", std::process::id());
        chmod_at(Path::new(&path), mode).map(did("changed its mode"))
    }),
    all("chmod-by-root", "does so through /proc/self/root", |p| {
        let path = format!("/proc/self/root{}", p.file("config").display());
        chmod_at(Path::new(&path), mode_of(p.file("config"))?).map(did("changed its mode"))
    }),
    all("chmod-by-dotdot", "does so from the workspace by ..", |p| {
        let up: PathBuf = p.workspace.components().map(|_| "..").collect();
        let path = p.workspace.join(up).join(p.file("config").strip_prefix("/").unwrap_or(Path::new("x")));
        chmod_at(&path, mode_of(p.file("config"))?).map(did("changed its mode"))
    }),
    all("chmod-by-link", "does so through a link of its own", |p| {
        let link = fresh(p, "chmod-link");
        let at = if symlink(p.file("config"), &link).is_ok() { link.as_path() } else { p.file("config") };
        chmod_at(at, mode_of(p.file("config"))?).map(did("changed its mode"))
    }),
    all("chmod-in-a-race", "does so through a link that changes meanwhile", race),
    all("chmod-state", "opens the state directory to everybody", |p| {
        chmod_at(&p.state, mode_of(&p.state)?).map(did("changed its mode"))
    }),
    all("chmod-system-file", "changes the mode of a file of the system that it may read", |_| {
        let file = readable()?;
        let mode = file.metadata()?.mode() as usize & 0o777;
        raw::call(libc::SYS_fchmod, [file.as_raw_fd() as usize, mode, 0, 0, 0, 0])
            .map(did("changed its mode"))
    }),
    all("touch-system-file", "changes the times of a file of the system that it may read", |_| {
        let file = readable()?;
        let same = [0, libc::UTIME_OMIT as u64, 0, libc::UTIME_NOW as u64];
        raw::call(libc::SYS_utimensat, [file.as_raw_fd() as usize, 0, raw::address(&same), 0, 0, 0])
            .map(did("changed them"))
    }),
    all("touch-by-empty-path", "changes the journal's times through a descriptor without rights", |p| {
        let (fd, empty) = (path_descriptor(p.file("journal"))?, libc::AT_EMPTY_PATH as usize);
        raw::call(libc::SYS_utimensat, [fd, raw::address(c""), 0, empty, 0, 0]).map(did("changed them"))
    }),
    #[cfg(target_arch = "x86_64")]
    all("touch-by-utime", "changes the journal's times by utime", |p| {
        let path = c_path(p.file("journal"));
        raw::call(libc::SYS_utime, [raw::address(path.as_c_str()), 0, 0, 0, 0, 0]).map(did("changed them"))
    }),
    #[cfg(target_arch = "x86_64")]
    all("touch-by-utimes", "changes the journal's times by utimes", |p| {
        let path = c_path(p.file("journal"));
        raw::call(libc::SYS_utimes, [raw::address(path.as_c_str()), 0, 0, 0, 0, 0]).map(did("changed them"))
    }),
    #[cfg(target_arch = "x86_64")]
    all("touch-by-futimesat", "changes the journal's times by futimesat", |p| {
        let path = c_path(p.file("journal"));
        raw::call(libc::SYS_futimesat, [HERE, raw::address(path.as_c_str()), 0, 0, 0, 0])
            .map(did("changed them"))
    }),
    all("answer-own-calls", "answers in the keeper's place whether it may change a mode", |_| {
        // One instruction: let everything pass.
        let pass = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
        let program = libc::sock_fprog { len: 1, filter: pass.as_ptr().cast_mut() };
        let (mode, listens) =
            (libc::SECCOMP_SET_MODE_FILTER as usize, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as usize);
        raw::call(libc::SYS_seccomp, [mode, listens, raw::address(&program), 0, 0, 0])
            .map(did("has a listener of its own"))
    }),
    #[cfg(target_arch = "x86_64")]
    all("chown-by-chown", "changes the owner of the configuration by the oldest call", |p| {
        let path = c_path(p.file("config"));
        let own = rustix::process::getuid().as_raw() as usize;
        raw::call(libc::SYS_chown, [raw::address(path.as_c_str()), own, usize::MAX, 0, 0, 0])
            .map(did("changed it"))
    }),
    all("chown-system-file", "changes the owner of a file that it may read", |_| {
        let file = readable()?;
        raw::call(libc::SYS_fchown, [file.as_raw_fd() as usize, usize::MAX, usize::MAX, 0, 0, 0])
            .map(did("changed it"))
    }),
    all("setxattrat", "gives the configuration an attribute by the newest call", |p| {
        let path = c_path(p.file("config"));
        let value = *b"x";
        // struct xattr_args: value, size, flags.
        let args = [raw::address(&value) as u64, 1];
        let arguments = [
            HERE,
            raw::address(path.as_c_str()),
            0,
            raw::address(c"user.openclaw_probe"),
            raw::address(&args),
            16,
        ];
        raw::call(SETXATTRAT, arguments).map(did("set it"))
    }),
    all("file-setattr", "makes the configuration immutable", |p| {
        let path = c_path(p.file("config"));
        // struct file_attr of version 0, all as it is.
        let none = [0u64; 3];
        raw::call(FILE_SETATTR, [HERE, raw::address(path.as_c_str()), raw::address(&none), 24, 0, 0])
            .map(did("set its flags"))
    }),
    all("setuid-by-open", "makes a set-id program with the call that creates it", |p| {
        let path = fresh(p, "setuid-open");
        let flags = (libc::O_CREAT | libc::O_WRONLY) as usize;
        raw::call(libc::SYS_openat, [HERE, raw::address(c_path(&path).as_c_str()), flags, 0o4755, 0, 0])?;
        has_bit(&path)
    }),
    #[cfg(target_arch = "x86_64")]
    all("setuid-by-creat", "makes one by creat", |p| {
        let path = fresh(p, "setuid-creat");
        raw::call(libc::SYS_creat, [raw::address(c_path(&path).as_c_str()), 0o4755, 0, 0, 0, 0])?;
        has_bit(&path)
    }),
    all("setuid-by-tmpfile", "makes one without a name, and names it", |p| {
        let (path, folder) = (fresh(p, "setuid-tmpfile"), c_path(&p.workspace));
        let flags = (libc::O_TMPFILE | libc::O_RDWR) as usize;
        let fd = raw::call(libc::SYS_openat, [HERE, raw::address(folder.as_c_str()), flags, 0o4755, 0, 0])?;
        let (from, to) = (c_path(Path::new(&format!("/proc/self/fd/{fd}"))), c_path(&path));
        let follow = libc::AT_SYMLINK_FOLLOW as usize;
        let args = [HERE, raw::address(from.as_c_str()), HERE, raw::address(to.as_c_str()), follow, 0];
        raw::call(libc::SYS_linkat, args)?;
        has_bit(&path)
    }),
    all("setgid-by-mknod", "makes one by mknod", |p| {
        let path = fresh(p, "setgid-mknod");
        let mode = (libc::S_IFREG | 0o2755) as usize;
        raw::call(libc::SYS_mknodat, [HERE, raw::address(c_path(&path).as_c_str()), mode, 0, 0, 0])?;
        has_bit(&path)
    }),
];
