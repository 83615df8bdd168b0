//! Other processes: signals, tracing, memory, descriptors, limits and priorities.

use super::{Probe, all, files, raw, tool};
use harness::escape::Plan;
use nix::libc;
use std::fs;
use std::io;
use std::path::Path;

/// Signal 0 asks every permission check and disturbs nobody.
fn may_signal(pid: i32) -> io::Result<String> {
    raw::call(libc::SYS_kill, [pid as usize, 0, 0, 0, 0, 0])?;
    Ok(format!("may signal {pid}"))
}

fn pidfd(pid: i32) -> io::Result<usize> {
    raw::call(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0, 0, 0]).map(|fd| fd as usize)
}

/// Stops a process for real; lets it go on at once.
fn stop(pid: i32) -> io::Result<String> {
    raw::call(libc::SYS_kill, [pid as usize, libc::SIGSTOP as usize, 0, 0, 0, 0])?;
    raw::call(libc::SYS_kill, [pid as usize, libc::SIGCONT as usize, 0, 0, 0, 0])?;
    Ok(format!("stopped {pid}"))
}

/// Attaches without stopping; the end of this process detaches.
fn trace(pid: i32) -> io::Result<String> {
    let seize = libc::PTRACE_SEIZE as usize;
    raw::call(libc::SYS_ptrace, [seize, pid as usize, 0, 0, 0, 0])?;
    Ok(format!("traces {pid}"))
}

/// The check of rights comes before the address is looked at: `EFAULT` means that memory would have been read.
fn memory(call: libc::c_long, pid: i32) -> io::Result<String> {
    let mut byte = [0u8; 8];
    let ours = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 8 };
    let theirs = libc::iovec { iov_base: std::ptr::without_provenance_mut(4096), iov_len: 8 };
    raw::reached(call, [pid as usize, raw::address(&ours), 1, raw::address(&theirs), 1, 0])
}

fn take_descriptor(pid: i32) -> io::Result<String> {
    let fd = pidfd(pid)?;
    raw::call(libc::SYS_pidfd_getfd, [fd, 1, 0, 0, 0, 0])?;
    Ok(format!("took descriptor 1 of {pid}"))
}

fn entry(pid: i32, name: &str) -> io::Result<String> {
    files::read(Path::new(&format!("/proc/{pid}/{name}")))
}

/// Numbers alone tell nothing; where one leads is the evidence.
fn descriptors(pid: i32) -> io::Result<String> {
    let first = fs::read_dir(format!("/proc/{pid}/fd"))?.next().ok_or(io::ErrorKind::NotFound)??;
    let target = fs::read_link(first.path())?;
    Ok(format!("descriptor of {pid}: {}", target.display()))
}

/// Memory through its file; a page that is certainly mapped is not needed, opening is the evidence.
fn open_memory(pid: i32) -> io::Result<String> {
    fs::File::open(format!("/proc/{pid}/mem"))?;
    Ok(format!("opened the memory of {pid}"))
}

fn limit(pid: i32) -> io::Result<String> {
    let mut old = [0u64; 2];
    let files = libc::RLIMIT_NOFILE as usize;
    raw::call(libc::SYS_prlimit64, [pid as usize, files, 0, old.as_mut_ptr() as usize, 0, 0])?;
    raw::call(libc::SYS_prlimit64, [pid as usize, files, raw::address(&old), 0, 0, 0])?;
    Ok(format!("set the open files of {pid}"))
}

/// Sets the priority that it has already.
fn renice(pid: i32) -> io::Result<String> {
    let nice = 20 - raw::call(libc::SYS_getpriority, [0, pid as usize, 0, 0, 0, 0])?;
    raw::call(libc::SYS_setpriority, [0, pid as usize, nice as usize, 0, 0, 0])?;
    Ok(format!("set the priority of {pid}"))
}

fn affinity(pid: i32) -> io::Result<String> {
    let mut mask = [0u64; 16];
    let bytes = size_of_val(&mask);
    raw::call(libc::SYS_sched_getaffinity, [pid as usize, bytes, mask.as_mut_ptr() as usize, 0, 0, 0])?;
    raw::call(libc::SYS_sched_setaffinity, [pid as usize, bytes, raw::address(&mask), 0, 0, 0])?;
    Ok(format!("chose the processors of {pid}"))
}

fn scheduler(pid: i32) -> io::Result<String> {
    let priority = 0i32;
    raw::call(libc::SYS_sched_setscheduler, [pid as usize, 0, raw::address(&priority), 0, 0, 0])?;
    Ok(format!("set the scheduler of {pid}"))
}

fn io_priority(pid: i32) -> io::Result<String> {
    let best_effort = (2usize << 13) | 4;
    raw::call(libc::SYS_ioprio_set, [1, pid as usize, best_effort, 0, 0, 0])?;
    Ok(format!("set the IO priority of {pid}"))
}

fn own_workers_children(plan: &Plan) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", plan.own_worker));
    let spawners = fs::read_dir(format!("/proc/{}/task", plan.own_worker)).into_iter().flatten().flatten();
    let of_threads = spawners.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let lists: Vec<String> = children.into_iter().chain(of_threads).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
}

/// What this command's guard is called: the youngest child of the worker, or else its parent's parent when run by the runner,
/// which is the tool's own process.
fn guard(plan: &Plan) -> io::Result<i32> {
    let youngest = own_workers_children(plan).into_iter().max();
    youngest.map_or_else(|| parent_of(parent_of(std::os::unix::process::parent_id() as i32)?), Ok)
}

/// The process that answers for modes and times: the worker's oldest child.
fn keeper(plan: &Plan) -> io::Result<i32> {
    own_workers_children(plan).into_iter().min().ok_or_else(|| super::absent("the worker shows no child"))
}

/// The whole user's processes at once. Without walls this would change everything that runs here.
fn of_the_user(call: libc::c_long, which: usize, value: usize) -> io::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    if !status.contains("Seccomp:\t2") {
        return Err(super::absent("without walls it would change the whole host"));
    }
    raw::call(call, [which, 0, value, 0, 0, 0]).map(|_| "changed all processes of the user".to_owned())
}

fn parent_of(pid: i32) -> io::Result<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    rest.split(' ').nth(1).and_then(|pid| pid.parse().ok()).ok_or_else(|| io::Error::other("no parent"))
}

pub const ALL: &[Probe] = &[
    all("signal-supervisor", "signals the supervisor", |p| may_signal(p.supervisor)),
    all("signal-other-worker", "signals the other agent's worker", |p| may_signal(p.other_worker)),
    all("signal-channel-worker", "signals the channel's worker", |p| may_signal(p.channel_worker)),
    tool("signal-own-worker", "signals its own worker", |p| may_signal(p.own_worker)),
    tool("signal-guard", "signals the guard that would end it", |p| may_signal(guard(p)?)),
    all("stop-supervisor", "stops the supervisor with SIGSTOP", |p| stop(p.supervisor)),
    all("stop-other-worker", "stops the other worker with SIGSTOP", |p| stop(p.other_worker)),
    all("signal-thread", "signals one thread of the supervisor", |p| {
        let pid = p.supervisor as usize;
        raw::call(libc::SYS_tgkill, [pid, pid, 0, 0, 0, 0]).map(|_| "may signal it".to_owned())
    }),
    all("signal-pidfd", "signals the supervisor through a pidfd", |p| {
        let fd = pidfd(p.supervisor)?;
        raw::call(libc::SYS_pidfd_send_signal, [fd, 0, 0, 0, 0, 0]).map(|_| "may signal it".to_owned())
    }),
    all("signal-queue", "queues a signal with data for the supervisor", |p| {
        let mut info = [0i32; 32];
        info[2] = -1;
        let args = [p.supervisor as usize, libc::SIGCONT as usize, raw::address(&info), 0, 0, 0];
        raw::call(libc::SYS_rt_sigqueueinfo, args).map(|_| "queued one".to_owned())
    }),
    all("signal-group", "signals the supervisor's process group", |p| may_signal(-p.supervisor)),
    all("ptrace-supervisor", "traces the supervisor", |p| trace(p.supervisor)),
    all("ptrace-other-worker", "traces the other worker", |p| trace(p.other_worker)),
    all("ptrace-channel-worker", "traces the channel's worker", |p| trace(p.channel_worker)),
    tool("ptrace-own-worker", "traces its own worker", |p| trace(p.own_worker)),
    tool("ptrace-guard", "traces its guard", |p| trace(guard(p)?)),
    all("vm-read-supervisor", "reads the supervisor's memory", |p| {
        memory(libc::SYS_process_vm_readv, p.supervisor)
    }),
    all("vm-read-other-worker", "reads the other worker's memory", |p| {
        memory(libc::SYS_process_vm_readv, p.other_worker)
    }),
    tool("vm-read-own-worker", "reads its own worker's memory", |p| {
        memory(libc::SYS_process_vm_readv, p.own_worker)
    }),
    all("vm-write-supervisor", "writes the supervisor's memory", |p| {
        memory(libc::SYS_process_vm_writev, p.supervisor)
    }),
    all("pidfd-getfd-supervisor", "takes a descriptor of the supervisor", |p| take_descriptor(p.supervisor)),
    all("pidfd-getfd-other-worker", "takes a descriptor of the other worker", |p| {
        take_descriptor(p.other_worker)
    }),
    tool("pidfd-getfd-own-worker", "takes a descriptor of its own worker", |p| take_descriptor(p.own_worker)),
    all("mem-supervisor", "opens the supervisor's /proc/…/mem", |p| open_memory(p.supervisor)),
    all("mem-other-worker", "opens the other worker's /proc/…/mem", |p| open_memory(p.other_worker)),
    tool("mem-own-worker", "opens its own worker's /proc/…/mem", |p| open_memory(p.own_worker)),
    all("environ-supervisor", "reads the supervisor's environment", |p| entry(p.supervisor, "environ")),
    all("environ-other-worker", "reads the other worker's environment", |p| entry(p.other_worker, "environ")),
    all("environ-channel-worker", "reads the channel worker's environment", |p| {
        entry(p.channel_worker, "environ")
    }),
    tool("environ-own-worker", "reads its own worker's environment", |p| entry(p.own_worker, "environ")),
    all("maps-supervisor", "reads the supervisor's memory map", |p| entry(p.supervisor, "maps")),
    all("maps-other-worker", "reads the other worker's memory map", |p| entry(p.other_worker, "maps")),
    tool("maps-own-worker", "reads its own worker's memory map", |p| entry(p.own_worker, "maps")),
    all("fds-supervisor", "reads where the supervisor's descriptors lead", |p| descriptors(p.supervisor)),
    all("fds-other-worker", "reads where the other worker's descriptors lead", |p| {
        descriptors(p.other_worker)
    }),
    tool("fds-own-worker", "reads where its own worker's descriptors lead", |p| descriptors(p.own_worker)),
    all("limit-supervisor", "sets a resource limit of the supervisor", |p| limit(p.supervisor)),
    all("limit-other-worker", "sets a resource limit of the other worker", |p| limit(p.other_worker)),
    all("renice-supervisor", "sets the supervisor's priority", |p| renice(p.supervisor)),
    all("affinity-supervisor", "chooses the supervisor's processors", |p| affinity(p.supervisor)),
    all("scheduler-supervisor", "sets the supervisor's scheduler", |p| scheduler(p.supervisor)),
    all("ioprio-supervisor", "sets the supervisor's IO priority", |p| io_priority(p.supervisor)),
    all("renice-user", "sets the priority of everything that its user runs", |_| {
        of_the_user(libc::SYS_setpriority, 2, 10)
    }),
    all("renice-group", "sets the priority of the supervisor's group", |p| {
        raw::call(libc::SYS_setpriority, [1, p.supervisor as usize, 0, 0, 0, 0])
            .map(|_| "set its priority".to_owned())
    }),
    all("ioprio-user", "sets the IO priority of everything that its user runs", |_| {
        of_the_user(libc::SYS_ioprio_set, 3, (2usize << 13) | 4)
    }),
    all("ioprio-group", "sets the IO priority of the supervisor's group", |p| {
        let best_effort = (2usize << 13) | 4;
        raw::call(libc::SYS_ioprio_set, [2, p.supervisor as usize, best_effort, 0, 0, 0])
            .map(|_| "set its IO priority".to_owned())
    }),
    all("scheduler-parameter", "sets the supervisor's scheduling parameter", |p| {
        let priority = 0i32;
        raw::call(libc::SYS_sched_setparam, [p.supervisor as usize, raw::address(&priority), 0, 0, 0, 0])
            .map(|_| "set it".to_owned())
    }),
    all("scheduler-attributes", "sets the supervisor's scheduling attributes", |p| {
        let mut attributes = [0u64; 6];
        let at = attributes.as_mut_ptr() as usize;
        raw::call(libc::SYS_sched_getattr, [p.supervisor as usize, at, 48, 0, 0, 0])?;
        raw::call(libc::SYS_sched_setattr, [p.supervisor as usize, at, 0, 0, 0, 0])
            .map(|_| "set them".to_owned())
    }),
    all("advise-supervisor", "has the kernel give up the supervisor's memory", |p| {
        let (fd, cold) = (pidfd(p.supervisor)?, 20);
        let range = [4096usize, 4096];
        raw::reached(libc::SYS_process_madvise, [fd, raw::address(&range), 1, cold, 0, 0])
    }),
    all("release-supervisor", "has the kernel take the supervisor's memory", |p| {
        // Its number is the same everywhere; a process that does not die is refused after the check of rights.
        raw::reached(448, [pidfd(p.supervisor)?, 0, 0, 0, 0, 0])
    }),
    all("move-pages", "asks on which nodes the supervisor's pages lie", |p| {
        let (page, mut node) = (4096usize, -1i32);
        let args = [p.supervisor as usize, 1, raw::address(&page), 0, &raw mut node as usize, 0];
        raw::reached(libc::SYS_move_pages, args)
    }),
    tool("signal-keeper", "signals the process that answers for modes and times", |p| may_signal(keeper(p)?)),
    tool("ptrace-keeper", "traces it", |p| trace(keeper(p)?)),
    tool("mem-keeper", "opens its memory", |p| open_memory(keeper(p)?)),
    tool("fds-keeper", "reads where its descriptors lead", |p| descriptors(keeper(p)?)),
    all("oom-supervisor", "makes the supervisor the first to be killed when memory is short", |p| {
        files::writable(Path::new(&format!("/proc/{}/oom_score_adj", p.supervisor)))
    }),
    tool("oom-own", "makes itself the last to be killed when memory is short", |_| {
        fs::write("/proc/self/oom_score_adj", "-900")?;
        Ok("lowered its own score".to_owned())
    }),
    all("kcmp", "compares the insides of two other processes", |p| {
        let (a, b) = (p.supervisor as usize, p.other_worker as usize);
        raw::call(libc::SYS_kcmp, [a, b, 2, 0, 0, 0]).map(|_| "compared them".to_owned())
    }),
    all("move-memory", "moves the supervisor's memory between nodes", |p| {
        let nodes = 1u64;
        let at = raw::address(&nodes);
        raw::call(libc::SYS_migrate_pages, [p.supervisor as usize, 64, at, at, 0, 0])
            .map(|_| "moved it".to_owned())
    }),
];
