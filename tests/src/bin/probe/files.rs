//! Reading what is not ours, writing where it is not ours, and detours to both.

use super::{Probe, all, raw, tool};
use harness::escape::Plan;
use nix::libc;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

pub fn read(path: &Path) -> io::Result<String> {
    let mut head = [0u8; 32];
    let bytes = File::open(path)?.read(&mut head)?;
    Ok(format!("read {bytes} bytes of {}", path.display()))
}

fn list(path: &Path) -> io::Result<String> {
    let names = fs::read_dir(path)?.filter_map(|entry| Some(entry.ok()?.file_name()));
    Ok(format!("listed {}: {:?}", path.display(), names.take(3).collect::<Vec<_>>()))
}

/// Opens for writing and writes nothing: the evidence is enough, and a hole must not break the host.
pub fn writable(path: &Path) -> io::Result<String> {
    OpenOptions::new().append(true).open(path)?;
    Ok(format!("opened {} for writing", path.display()))
}

/// Makes a file and removes it.
fn creates(path: &Path) -> io::Result<String> {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    fs::remove_file(path)?;
    Ok(format!("created {}", path.display()))
}

pub fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// A name of our own in the workspace, free for use.
fn fresh(plan: &Plan, name: &str) -> PathBuf {
    let path = plan.workspace.join(format!("probe-{name}"));
    let _not_there = fs::remove_file(&path);
    path
}

fn proc(pid: i32, rest: &str, below: &Path) -> io::Result<String> {
    read(Path::new(&format!("/proc/{pid}/{rest}{}", below.display())))
}

pub const READ: &[Probe] = &[
    all("read-journal", "reads the journal, which holds every message", |p| read(p.file("journal"))),
    all("read-journal-wal", "reads the journal's write-ahead log", |p| read(p.file("journal-wal"))),
    all("read-config", "reads the gateway's configuration with its tokens", |p| read(p.file("config"))),
    all("read-last-good", "reads the kept copy of the configuration", |p| read(p.file("last-good"))),
    all("read-env-file", "reads the .env file", |p| read(p.file("env"))),
    all("read-control-token", "reads the token of the control socket", |p| read(p.file("control-token"))),
    all("read-credentials", "reads a channel's stored credentials", |p| read(p.file("credentials"))),
    all("read-pairing", "reads the file of paired devices", |p| read(p.file("devices"))),
    all("read-ssh-key", "reads the private key in ~/.ssh", |p| read(p.file("ssh-key"))),
    all("read-cloud-key", "reads ~/.aws/credentials", |p| read(p.file("cloud-key"))),
    all("read-other-transcript", "reads the other agent's conversation", |p| {
        read(p.file("other-transcript"))
    }),
    all("read-other-sessions", "reads the other agent's session index", |p| read(p.file("other-sessions"))),
    all("read-other-auth", "reads the other agent's provider keys", |p| read(p.file("other-auth"))),
    all("read-other-workspace", "reads a note in the other agent's workspace", |p| {
        read(p.file("other-note"))
    }),
    tool("read-own-transcript", "reads its agent's conversation: only the worker may", |p| {
        read(p.file("own-transcript"))
    }),
    tool("read-own-auth", "reads its agent's provider keys: only the worker may", |p| {
        read(p.file("own-auth"))
    }),
    all("read-crash-report", "reads a crash report", |p| read(p.file("crash"))),
    all("read-log", "reads the gateway's log", |p| read(p.file("log"))),
    all("read-host-tmp", "reads another program's file in /tmp", |p| read(p.file("host-tmp"))),
    all("read-shadow", "reads the host's password hashes", |_| read(Path::new("/etc/shadow"))),
    all("list-state", "lists the state directory", |p| list(&p.state)),
    all("list-agents", "lists the agents' directories", |p| list(&p.state.join("agents"))),
    all("list-home", "lists the home directory", |p| list(&p.home)),
    all("list-root-home", "lists /root", |_| list(Path::new("/root"))),
    all("read-dotdot", "leaves the workspace by ..", |p| {
        let up: PathBuf = p.workspace.components().map(|_| "..").collect();
        read(&p.workspace.join(up).join(p.file("config").strip_prefix("/").unwrap_or(Path::new("x"))))
    }),
    all("read-symlink", "follows a symbolic link of its own to the configuration", |p| {
        let link = fresh(p, "symlink");
        let at = if symlink(p.file("config"), &link).is_ok() { link.as_path() } else { p.file("config") };
        read(at)
    }),
    all("read-symlink-dir", "follows a link to a directory, and on from there", |p| {
        let link = fresh(p, "symlink-dir");
        let at = if symlink(&p.state, &link).is_ok() { link } else { p.state.clone() };
        read(&at.join("openclaw.json"))
    }),
    all("read-hardlink", "gives the configuration a second name in the workspace", |p| {
        let link = fresh(p, "hardlink");
        fs::hard_link(p.file("config"), &link)?;
        read(&link)
    }),
    all(
        "read-path-descriptor",
        "opens a descriptor without rights and reopens it through /proc/self/fd",
        |p| {
            let path = c_path(p.file("config"));
            let flags = (libc::O_PATH | libc::O_CLOEXEC) as usize;
            let at = libc::AT_FDCWD as usize;
            let fd = raw::call(libc::SYS_openat, [at, raw::address(path.as_c_str()), flags, 0, 0, 0])?;
            read(Path::new(&format!("/proc/self/fd/{fd}")))
        },
    ),
    all("read-self-root", "goes through /proc/self/root", |p| {
        read(Path::new(&format!("/proc/self/root{}", p.file("config").display())))
    }),
    all("read-supervisor-root", "goes through the supervisor's /proc/…/root", |p| {
        proc(p.supervisor, "root", p.file("config"))
    }),
    all("read-supervisor-cwd", "goes through the supervisor's /proc/…/cwd", |p| {
        proc(p.supervisor, "cwd/.", Path::new(""))
    }),
    all("read-other-root", "goes through the other worker's /proc/…/root", |p| {
        proc(p.other_worker, "root", p.file("other-transcript"))
    }),
    tool("read-own-worker-root", "goes through its own worker's /proc/…/root", |p| {
        proc(p.own_worker, "root", p.file("own-transcript"))
    }),
    all("open-by-handle", "opens a file by its handle, past every directory", |p| {
        // struct file_handle with 128 bytes for the handle.
        let mut handle = [0u32; 34];
        handle[0] = 128;
        let (path, mut mount) = (c_path(p.file("config")), 0i32);
        let at = libc::AT_FDCWD as usize;
        let args =
            [at, raw::address(path.as_c_str()), handle.as_mut_ptr() as usize, &raw mut mount as usize, 0, 0];
        raw::call(libc::SYS_name_to_handle_at, args)?;
        let root = File::open("/")?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&root) as usize;
        raw::call(
            libc::SYS_open_by_handle_at,
            [fd, raw::address(&handle), libc::O_RDONLY as usize, 0, 0, 0],
        )?;
        Ok("opened the configuration by its handle".to_owned())
    }),
    all("watch-state", "watches the state directory for names of files", |p| {
        let fd = raw::call(libc::SYS_inotify_init1, [0; 6])?;
        let path = c_path(&p.state);
        let mask = libc::IN_ALL_EVENTS as usize;
        raw::call(libc::SYS_inotify_add_watch, [fd as usize, raw::address(path.as_c_str()), mask, 0, 0, 0])?;
        Ok("watches the state directory".to_owned())
    }),
    all("fanotify", "watches every file of the host", |_| {
        raw::call(libc::SYS_fanotify_init, [0; 6]).map(|_| "has a fanotify group".to_owned())
    }),
];

pub const WRITE: &[Probe] = &[
    all("write-config", "opens the configuration for writing", |p| writable(p.file("config"))),
    all("write-journal", "opens the journal for writing", |p| writable(p.file("journal"))),
    all("truncate-journal", "truncates the journal by name", |p| {
        let (path, length) = (c_path(p.file("journal")), fs::metadata(p.file("journal"))?.len());
        raw::call(libc::SYS_truncate, [raw::address(path.as_c_str()), length as usize, 0, 0, 0, 0])?;
        Ok("set the journal's length".to_owned())
    }),
    all("remove-from-state", "removes a file of the state directory", |p| {
        fs::remove_file(p.file("bait-remove"))?;
        Ok("removed it".to_owned())
    }),
    all("create-in-state", "creates a file in the state directory", |p| creates(&p.state.join("dropped"))),
    all("create-in-agents", "creates a file beside the other agent's transcripts", |p| {
        creates(&p.file("other-sessions").with_file_name("dropped.jsonl"))
    }),
    all("create-in-other-workspace", "creates a file in the other agent's workspace", |p| {
        creates(&p.file("other-note").with_file_name("dropped"))
    }),
    all("mkdir-in-state", "makes a directory in the state directory", |p| {
        let path = p.state.join("dropped-dir");
        fs::create_dir(&path)?;
        fs::remove_dir(&path)?;
        Ok("made it".to_owned())
    }),
    all("rename-into-workspace", "moves a secret file into the workspace", |p| {
        fs::rename(p.file("bait-rename"), fresh(p, "renamed"))?;
        Ok("moved it".to_owned())
    }),
    all("rename-over-state", "moves a file of its own over one of the gateway's", |p| {
        let own = fresh(p, "mine");
        fs::write(&own, "{}").map_err(|_| io::Error::from_raw_os_error(libc::EACCES))?;
        fs::rename(&own, p.file("bait-over"))?;
        Ok("replaced it".to_owned())
    }),
    all("rename-exchange", "exchanges a file of its own with one of the gateway's", |p| {
        let own = fresh(p, "exchange");
        fs::write(&own, "{}").map_err(|_| io::Error::from_raw_os_error(libc::EACCES))?;
        let (ours, theirs) = (c_path(&own), c_path(p.file("bait-over")));
        let (at, exchange) = (libc::AT_FDCWD as usize, libc::RENAME_EXCHANGE as usize);
        let args = [at, raw::address(ours.as_c_str()), at, raw::address(theirs.as_c_str()), exchange, 0];
        raw::call(libc::SYS_renameat2, args).map(|_| "exchanged them".to_owned())
    }),
    all("write-symlink", "writes through a symbolic link of its own", |p| {
        let link = fresh(p, "write-symlink");
        let at = if symlink(p.file("config"), &link).is_ok() { link.as_path() } else { p.file("config") };
        writable(at)
    }),
    all("write-authorized-keys", "adds a key to ~/.ssh/authorized_keys", |p| {
        let path = p.home.join(".ssh/probe_authorized_keys");
        creates(&path)
    }),
    all("write-profile", "changes the shell's start file", |p| writable(&p.home.join(".bashrc"))),
    all("write-user-unit", "adds a service that a later login starts", |p| {
        creates(&p.home.join(".config/systemd/user/probe.service"))
    }),
    all("write-cron", "adds a job of the host's cron", |_| creates(Path::new("/etc/cron.d/openclaw-probe"))),
    all("write-passwd", "opens /etc/passwd for writing", |_| writable(Path::new("/etc/passwd"))),
    all("write-usr", "adds a program to /usr/local/bin", |_| {
        creates(Path::new("/usr/local/bin/openclaw-probe"))
    }),
    all("write-beside-executables", "adds a file beside the gateway's executables", |p| {
        creates(&p.bin.join("openclaw-probe-dropped"))
    }),
    all("write-host-tmp", "creates a file in the host's /tmp", |p| {
        creates(&p.file("host-tmp").with_file_name("openclaw-probe-dropped"))
    }),
    all("write-log", "opens the gateway's log for writing", |p| writable(p.file("log"))),
    tool("write-own-transcript", "changes its agent's conversation: only the worker may", |p| {
        writable(p.file("own-transcript"))
    }),
    all("chmod-config", "opens the configuration to everybody", |p| {
        let mode = fs::metadata(p.file("config"))?.permissions().mode();
        fs::set_permissions(p.file("config"), fs::Permissions::from_mode(mode))?;
        Ok("changed its mode".to_owned())
    }),
    all("touch-journal", "changes the journal's times", |p| {
        let (path, at) = (c_path(p.file("journal")), libc::AT_FDCWD as usize);
        raw::call(libc::SYS_utimensat, [at, raw::address(path.as_c_str()), 0, 0, 0, 0])?;
        Ok("changed them".to_owned())
    }),
    all("chown-config", "changes the owner of the configuration", |p| {
        let path = c_path(p.file("config"));
        let same = usize::MAX;
        let own = rustix::process::getuid().as_raw() as usize;
        let at = libc::AT_FDCWD as usize;
        raw::call(libc::SYS_fchownat, [at, raw::address(path.as_c_str()), own, same, 0, 0])?;
        Ok("changed it".to_owned())
    }),
    all("setxattr-config", "gives the configuration an attribute", |p| {
        let (path, name) = (c_path(p.file("config")), c"user.openclaw_probe");
        let args = [raw::address(path.as_c_str()), raw::address(name), raw::address("x"), 1, 0, 0];
        raw::call(libc::SYS_setxattr, args).map(|_| "set it".to_owned())
    }),
    all("setuid-file", "makes a program in the workspace run as the gateway's user for everybody", |p| {
        let path = fresh(p, "setuid");
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&path);
        made.map_err(|_| io::Error::from_raw_os_error(libc::EACCES))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755))?;
        let mode = fs::metadata(&path)?.permissions().mode();
        fs::remove_file(&path)?;
        if mode & 0o4000 == 0 {
            Err(io::Error::other("the bit was dropped"))
        } else {
            Ok(format!("mode {mode:o}"))
        }
    }),
];

/// A device node made by ourselves.
fn device(plan: &Plan, kind: u32, major: u32, minor: u32) -> io::Result<String> {
    let (node, at) = (fresh(plan, "device"), libc::AT_FDCWD as usize);
    let path = c_path(&node);
    let number = nix::libc::makedev(major, minor) as usize;
    let mode = (kind | 0o600) as usize;
    raw::call(libc::SYS_mknodat, [at, raw::address(path.as_c_str()), mode, number, 0, 0])?;
    let _removed = fs::remove_file(&node);
    Ok(format!("made device {major}:{minor}"))
}

/// A file that a host may not have.
fn if_there(path: &str, attempt: fn(&Path) -> io::Result<String>) -> io::Result<String> {
    match attempt(Path::new(path)) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO | libc::ENODEV)) => {
            Err(super::absent(&format!("no {path} here")))
        }
        result => result,
    }
}

pub const PLACES: &[Probe] = &[
    all("open-dev-mem", "opens the machine's memory", |_| if_there("/dev/mem", read)),
    all("open-dev-kmem", "opens the kernel's memory", |_| if_there("/dev/kmem", read)),
    all("open-dev-kmsg", "reads the kernel's log device", |_| if_there("/dev/kmsg", read)),
    all("open-raw-disk", "opens the disk below the file system", |_| {
        let disks = ["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/xvda"];
        let there = disks.into_iter().find(|disk| fs::symlink_metadata(disk).is_ok());
        there.map_or(Err(super::absent("no disk device here")), |disk| if_there(disk, read))
    }),
    all("open-fuse", "opens /dev/fuse", |_| if_there("/dev/fuse", writable)),
    all("open-kvm", "opens /dev/kvm", |_| if_there("/dev/kvm", writable)),
    all("open-tun", "opens /dev/net/tun", |_| if_there("/dev/net/tun", writable)),
    all("mknod-mem", "makes a device node for the machine's memory", |p| device(p, libc::S_IFCHR, 1, 1)),
    all("mknod-disk", "makes a device node for the disk", |p| device(p, libc::S_IFBLK, 254, 0)),
    all("write-core-pattern", "has the kernel run a program at every crash", |_| {
        if_there("/proc/sys/kernel/core_pattern", writable)
    }),
    all("write-modprobe", "has the kernel run a program for an unknown format", |_| {
        if_there("/proc/sys/kernel/modprobe", writable)
    }),
    all("write-binfmt", "registers a format of executables", |_| {
        if_there("/proc/sys/fs/binfmt_misc/register", writable)
    }),
    all("write-sysctl", "changes a kernel setting", |_| if_there("/proc/sys/vm/overcommit_memory", writable)),
    all("write-sysrq", "opens /proc/sysrq-trigger", |_| if_there("/proc/sysrq-trigger", writable)),
    all("write-uevent-helper", "has the kernel run a program for a device", |_| {
        if_there("/sys/kernel/uevent_helper", writable)
    }),
    all("write-cgroup-procs", "moves itself to the root control group", |_| {
        let groups = ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs"];
        let there = groups.into_iter().find(|group| fs::symlink_metadata(group).is_ok());
        there.map_or(Err(super::absent("no cgroup v2 here")), |group| writable(Path::new(group)))
    }),
    all("write-cgroup-v1", "changes the limits of a control group", |_| {
        if_there("/sys/fs/cgroup/pids/cgroup.procs", writable)
    }),
    all("write-release-agent", "has the kernel run a program when a control group empties", |_| {
        if_there("/sys/fs/cgroup/memory/release_agent", writable)
    }),
    all("mkdir-cgroup", "makes a control group of its own", |_| {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let root = roots.into_iter().find(|root| Path::new(root).join("cgroup.procs").exists());
        let Some(root) = root else { return Err(super::absent("no cgroup v2 here")) };
        let path = Path::new(root).join("openclaw-probe");
        fs::create_dir(&path)?;
        fs::remove_dir(&path)?;
        Ok("made one".to_owned())
    }),
];
