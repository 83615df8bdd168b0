//! What a process carries: limits, rights, descriptors, environment.

use super::{Probe, all, raw, tool};
use nix::libc;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::fs;
use std::io;

fn raise(resource: Resource, name: &str) -> io::Result<String> {
    let (_, hard) = getrlimit(resource)?;
    if hard == RLIM_INFINITY {
        return Ok(format!("{name} has no limit"));
    }
    setrlimit(resource, hard + 1, hard + 1)?;
    Ok(format!("raised {name} above {hard}"))
}

fn status(field: &str) -> io::Result<String> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    Ok(line.unwrap_or_default().trim_start_matches(':').trim().to_owned())
}

/// `Ok`, the hole, when a line of /proc/self/status is not as wanted.
fn lacks(field: &str, wanted: &str) -> io::Result<String> {
    let is = status(field)?;
    if is == wanted {
        Err(io::Error::other(format!("{field} is {is}")))
    } else {
        Ok(format!("{field} is {is}"))
    }
}

/// Rights over the host that root keeps unless they are taken away: none may be left, whatever the user.
const HOST_RIGHTS: [(u32, &str); 16] = [
    (2, "dac_read_search"),
    (9, "linux_immutable"),
    (12, "net_admin"),
    (13, "net_raw"),
    (16, "sys_module"),
    (17, "sys_rawio"),
    (19, "sys_ptrace"),
    (20, "sys_pacct"),
    (21, "sys_admin"),
    (22, "sys_boot"),
    (24, "sys_resource"),
    (25, "sys_time"),
    (27, "mknod"),
    (34, "syslog"),
    (38, "perfmon"),
    (39, "bpf"),
];

fn rights(set: &str) -> io::Result<String> {
    let bits = u64::from_str_radix(&status(set)?, 16).unwrap_or(u64::MAX);
    let held: Vec<&str> =
        HOST_RIGHTS.iter().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name).collect();
    if held.is_empty() {
        Err(io::Error::other("none is left"))
    } else {
        Ok(format!("has {}", held.join(", ")))
    }
}

pub const ALL: &[Probe] = &[
    tool("inherited-descriptors", "uses a descriptor that its parents left open", |_| {
        // The listing's own descriptor, and the pipe of the runner, which is standard output.
        let open = fs::read_dir("/proc/self/fd")?.flatten().map(|entry| entry.path());
        let extra: Vec<String> = open
            .filter(|path| {
                path.file_name().and_then(|name| name.to_str()?.parse::<i32>().ok()).is_some_and(|fd| fd > 2)
            })
            .filter_map(|path| fs::read_link(path).ok())
            .map(|target| target.display().to_string())
            .filter(|target| !(target.starts_with("/proc/") && target.ends_with("/fd")))
            .collect();
        if extra.is_empty() { Err(io::Error::other("0 to 2 only")) } else { Ok(format!("{extra:?}")) }
    }),
    all("environment", "finds a secret in its own environment", |p| {
        let own = fs::read("/proc/self/environ").map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let own = own.unwrap_or_default();
        let known: String = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
        let found = p.secrets.iter().find(|secret| own.contains(*secret) || known.contains(*secret));
        found.map_or(Err(io::Error::other("there is none")), |secret| Ok(format!("found {secret}")))
    }),
    all("core-files", "leaves its memory in a core file", |_| {
        let (soft, hard) = getrlimit(Resource::RLIMIT_CORE)?;
        if (soft, hard) == (0, 0) {
            raise(Resource::RLIMIT_CORE, "core")
        } else {
            Ok(format!("{soft}, {hard}"))
        }
    }),
    all("no-new-privs", "could gain rights by a set-uid program", |_| lacks("NoNewPrivs", "1")),
    all("no-filter", "runs without a system call filter", |_| lacks("Seccomp", "2")),
    all("host-rights", "has rights over the host", |_| rights("CapEff")),
    all("host-rights-later", "could have rights over the host after an exec", |_| {
        // Without new privileges only root gets back at an exec what it gave up.
        let settled = status("NoNewPrivs")? == "1" && !rustix::process::getuid().is_root();
        if settled { Err(io::Error::other("an exec gives nothing")) } else { rights("CapBnd") }
    }),
    tool("raise-open-files", "raises its limit of open files", |_| {
        raise(Resource::RLIMIT_NOFILE, "open files")
    }),
    tool("raise-file-size", "raises the largest size of a file", |_| {
        raise(Resource::RLIMIT_FSIZE, "file size")
    }),
    tool("raise-memory", "raises its limit of memory", |_| raise(Resource::RLIMIT_DATA, "memory")),
    tool("cpu-unlimited", "computes for ever", |_| raise(Resource::RLIMIT_CPU, "processor time")),
    tool("nice", "gets ahead of everybody", |_| {
        raw::call(libc::SYS_setpriority, [0, 0, -10isize as usize, 0, 0, 0])
            .map(|_| "raised its priority".to_owned())
    }),
    tool("real-time", "runs in real time, so that nothing else does", |_| {
        let priority = 1i32;
        raw::call(libc::SYS_sched_setscheduler, [0, 1, raw::address(&priority), 0, 0, 0])?;
        Ok("runs in real time".to_owned())
    }),
    tool("lock-memory", "keeps 1 GiB of memory from being swapped", |_| {
        let bytes = 1usize << 30;
        let (rights, flags) = (
            (libc::PROT_READ | libc::PROT_WRITE) as usize,
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize,
        );
        let at = raw::call(libc::SYS_mmap, [0, bytes, rights, flags, usize::MAX, 0])? as usize;
        // On fault only: nothing is touched, the right alone is asked for.
        raw::call(libc::SYS_mlock2, [at, bytes, 1, 0, 0, 0]).map(|_| "locked it".to_owned())
    }),
    tool("large-file", "makes a file of 8 GiB", |p| {
        let path = p.workspace.join("probe-large");
        let file = fs::File::create(&path)?;
        // The signal would end this process; an error is enough.
        let mut set = nix::sys::signal::SigSet::empty();
        set.add(nix::sys::signal::Signal::SIGXFSZ);
        set.thread_block()?;
        let grown = file.set_len(8 << 30);
        fs::remove_file(&path)?;
        grown.map(|()| "made it".to_owned())
    }),
    tool("large-memory", "takes 8 GiB of memory", |_| {
        let mut block: Vec<u8> = Vec::new();
        block.try_reserve_exact(8 << 30).map_err(io::Error::other)?;
        Ok("has it".to_owned())
    }),
];
