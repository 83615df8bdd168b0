//! System calls that a worker or a command never needs and that a break-in would want. They fail with EPERM. A list of what
//! is denied, since a list of what is allowed breaks with every release of the C library.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use std::collections::BTreeMap;
use std::io;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Always denied: other processes' memory, kernel code, mounts, keys, machine-wide state.
const DENIED: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_open_by_handle_at,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_fanotify_init,
    // Tells the names of files in folders that cannot be listed.
    libc::SYS_inotify_add_watch,
    // Landlock has no rule for owners: a file that cannot be opened could still be given away.
    libc::SYS_fchown,
    libc::SYS_fchownat,
    // Flags of a file (immutable, append only, …) by its path.
    FILE_SETATTR,
    OPEN_TREE_ATTR,
    QUOTACTL_FD,
    libc::SYS_process_madvise,
    PROCESS_MRELEASE,
];
/// The same numbers on every target; a kernel that does not know them refuses them as well.
const FILE_SETATTR: i64 = 469;
const OPEN_TREE_ATTR: i64 = 467;
const QUOTACTL_FD: i64 = 443;
const PROCESS_MRELEASE: i64 = 448;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_kexec_file_load,
    libc::SYS_modify_ldt,
    libc::SYS_chown,
    libc::SYS_lchown,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

/// Flags of `unshare` and `clone` that make a namespace. (CLONE_NEWTIME shares its bit with `clone`'s exit signal.)
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];
const CLONE_NEWTIME: i32 = 0x80;

/// Calls that answer as on a file system without extended attributes, for which every program has an answer.
const NO_ATTRIBUTES: [i64; 8] = [
    SETXATTRAT,
    REMOVEXATTRAT,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];
/// Calls that change another process when this argument is not 0: limits, priority, processors, scheduler, disk priority.
const OF_OTHERS: [(i64, u8); 7] = [
    (libc::SYS_prlimit64, 0),
    (libc::SYS_setpriority, 1),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_ioprio_set, 1),
];
/// Those of them for which 0 can mean every process of the caller's user, with the first argument that says so.
const OF_A_USER: [(i64, u64); 2] =
    [(libc::SYS_setpriority, PRIO_USER), (libc::SYS_ioprio_set, IOPRIO_WHO_USER)];
const PRIO_USER: u64 = 2;
const IOPRIO_WHO_USER: u64 = 3;
/// Calls that set a file's mode, and which argument is the mode.
const MODES: [(i64, u8); 4] =
    [(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (FCHMODAT2, 2), (libc::SYS_mknodat, 2)];
#[cfg(target_arch = "x86_64")]
const MODES_HERE: &[(i64, u8)] = &[(libc::SYS_chmod, 1), (libc::SYS_mknod, 1), (libc::SYS_creat, 1)];
#[cfg(not(target_arch = "x86_64"))]
const MODES_HERE: &[(i64, u8)] = &[];
/// The same number on every target.
const FCHMODAT2: i64 = 452;
/// A program with the rights of its owner or group.
const SET_ID_BITS: [u64; 2] = [0o4000, 0o2000];
/// Flags of `open` that make a file: with a name, and without one (`O_TMPFILE` less its `O_DIRECTORY`).
const CREATES: [u64; 2] = [libc::O_CREAT as u64, (libc::O_TMPFILE & !libc::O_DIRECTORY) as u64];
/// Calls that send, and which argument holds the flags: with this one they connect without `connect`, unseen by Landlock.
const SENDS: [(i64, u8); 3] = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];
const MSG_FASTOPEN: u64 = 0x2000_0000;
/// Protocols of an IP socket: the family's own, ICMP, TCP, UDP, ICMPv6. Others (multipath TCP) pass Landlock's port rules by.
const IP_PROTOCOLS: [u64; 5] = [0, 1, 6, 17, 58];

/// `personality` that only asks.
const PERSONALITY_ASK: u64 = 0xffff_ffff;
/// Puts keystrokes into a terminal; the second one does so on a virtual console. (Absent from libc on some targets.)
const TERMINAL_TRICKS: [u64; 2] = [0x5412, 0x541C];
/// Calls of the x32 ABI carry this bit, and would pass a list of 64-bit numbers.
const X32_BIT: u32 = 0x4000_0000;

/// Which sockets there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// IPv4, IPv6 and the kernel's routing table. None with a name in the file system: behind those stand a container
    /// engine, a session bus, a key agent.
    Network,
    /// None; pairs and pipes only.
    None,
}

fn error(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value).map_err(error)
}

fn rule(conditions: Vec<SeccompCondition>) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(error)
}

fn deny(rules: Rules, errno: i32) -> io::Result<BpfProgram> {
    let arch: TargetArch = std::env::consts::ARCH.try_into().map_err(error)?;
    let refused = SeccompAction::Errno(errno.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).map_err(error)?;
    filter.try_into().map_err(error)
}

/// The deny list of every worker; what it starts inherits it. `listens`: commands may offer a TCP port.
fn worker_rules(listens: bool) -> io::Result<Rules> {
    let mut rules: Rules = DENIED.iter().chain(DENIED_HERE).map(|call| (*call, Vec::new())).collect();
    let flag = |bit: i32| {
        let bit = u64::from(bit.cast_unsigned());
        rule(vec![when(0, SeccompCmpOp::MaskedEq(bit), bit)?])
    };
    let namespaces = NAMESPACES.into_iter().map(flag).collect::<io::Result<Vec<_>>>()?;
    rules.insert(libc::SYS_clone, namespaces.clone());
    rules.insert(libc::SYS_unshare, namespaces.into_iter().chain([flag(CLONE_NEWTIME)?]).collect());
    let tricks = TERMINAL_TRICKS.iter().map(|trick| rule(vec![when(1, SeccompCmpOp::Eq, *trick)?]));
    rules.insert(libc::SYS_ioctl, tricks.collect::<io::Result<Vec<_>>>()?);
    let odd = vec![when(0, SeccompCmpOp::Ne, 0)?, when(0, SeccompCmpOp::Ne, PERSONALITY_ASK)?];
    rules.insert(libc::SYS_personality, vec![rule(odd)?]);
    let family = |family: i32| u64::from(family.cast_unsigned());
    let others = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]
        .map(|known| when(0, SeccompCmpOp::Ne, family(known)))
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?;
    let not_routes = vec![
        when(0, SeccompCmpOp::Eq, family(libc::AF_NETLINK))?,
        when(2, SeccompCmpOp::Ne, family(libc::NETLINK_ROUTE))?,
    ];
    let mut odd_protocol = vec![when(0, SeccompCmpOp::Ne, family(libc::AF_NETLINK))?];
    for known in IP_PROTOCOLS {
        odd_protocol.push(when(2, SeccompCmpOp::Ne, known)?);
    }
    rules.insert(libc::SYS_socket, vec![rule(others)?, rule(not_routes)?, rule(odd_protocol)?]);
    conditional(&mut rules)?;
    if !listens {
        rules.insert(libc::SYS_listen, Vec::new());
    }
    Ok(rules)
}

/// Calls that are denied for some of their arguments.
fn conditional(rules: &mut Rules) -> io::Result<()> {
    for (call, argument) in OF_OTHERS {
        let mut other = vec![when(argument, SeccompCmpOp::Ne, 0)?];
        if call == libc::SYS_prlimit64 {
            // Without new values it only asks.
            let values = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0);
            other.push(values.map_err(error)?);
        }
        let mut cases = vec![rule(other)?];
        for (_, kind) in OF_A_USER.iter().filter(|(known, _)| *known == call) {
            cases.push(rule(vec![when(0, SeccompCmpOp::Eq, *kind)?])?);
        }
        rules.insert(call, cases);
    }
    for (call, argument) in MODES.iter().chain(MODES_HERE) {
        let bits = SET_ID_BITS.map(|bit| rule(vec![when(*argument, SeccompCmpOp::MaskedEq(bit), bit)?]));
        rules.insert(*call, bits.into_iter().collect::<io::Result<Vec<_>>>()?);
    }
    let creates = |flags: u8, mode: u8| {
        let both = |(create, bit): (u64, u64)| {
            let made = when(flags, SeccompCmpOp::MaskedEq(create), create)?;
            rule(vec![made, when(mode, SeccompCmpOp::MaskedEq(bit), bit)?])
        };
        let cases = CREATES.into_iter().flat_map(|create| SET_ID_BITS.map(|bit| (create, bit)));
        cases.map(both).collect::<io::Result<Vec<_>>>()
    };
    rules.insert(libc::SYS_openat, creates(2, 3)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, creates(1, 2)?);
    for (call, argument) in SENDS {
        let opens = when(argument, SeccompCmpOp::MaskedEq(MSG_FASTOPEN), MSG_FASTOPEN)?;
        rules.insert(call, vec![rule(vec![opens])?]);
    }
    Ok(())
}

/// No calls of the x32 ABI, and neither `clone3` nor `openat2`: their flags lie in memory, where no filter can read them. The C
/// library and programs take `clone` and `openat` when they hear that the calls do not exist.
fn shape() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const FAIL_WITH: u32 = 0x0005_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let number = |call: i64| u32::try_from(call).unwrap_or(u32::MAX);
    let (clone3, openat2) = (number(libc::SYS_clone3), number(libc::SYS_openat2));
    vec![
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_EQUAL, 3, 0, clone3),
        step(JUMP_EQUAL, 2, 0, openat2),
        step(JUMP_GREATER_OR_EQUAL, 2, 0, X32_BIT),
        step(RETURN, 0, 0, ALLOW),
        step(RETURN, 0, 0, FAIL_WITH | libc::ENOSYS.cast_unsigned()),
        step(RETURN, 0, 0, FAIL_WITH | libc::EPERM.cast_unsigned()),
    ]
}

/// A filter that has these calls wait for whoever listens, and lets the others pass.
pub fn asking(calls: &[i64]) -> Vec<libc::sock_filter> {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let number = |call: i64| u32::try_from(call).unwrap_or(u32::MAX);
    let mut program = vec![step(LOAD_NUMBER, 0, 0, 0)];
    for call in calls {
        program.push(step(JUMP_EQUAL, 0, 1, number(*call)));
        program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
    }
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}

/// Modes and times are not for this process nor for what it starts.
pub fn refuse(calls: &[i64]) -> io::Result<()> {
    let mut rules: Rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    // Nor does anything below answer such calls by itself.
    let listens = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    rules.insert(libc::SYS_seccomp, vec![rule(vec![when(1, SeccompCmpOp::MaskedEq(listens), listens)?])?]);
    seccompiler::apply_filter(&deny(rules, libc::EPERM)?).map_err(error)
}

/// The keeper of attributes: a worker's denials, and `openat2` stays.
pub fn enforce_keeper() -> io::Result<()> {
    seccompiler::apply_filter(&deny(worker_rules(false)?, libc::EPERM)?).map_err(error)
}

/// Filters the calls of this thread and of all that it starts from now on.
pub fn enforce_worker(listens: bool) -> io::Result<()> {
    let attributes = NO_ATTRIBUTES.map(|call| (call, Vec::new()));
    for filter in [
        shape(),
        deny(attributes.into_iter().collect(), libc::EOPNOTSUPP)?,
        deny(worker_rules(listens)?, libc::EPERM)?,
    ] {
        seccompiler::apply_filter(&filter).map_err(error)?;
    }
    Ok(())
}

/// The same for a command; a worker's filter is inherited, so this only adds.
pub fn enforce_tool(sockets: Sockets) -> io::Result<()> {
    match sockets {
        Sockets::Network => Ok(()),
        Sockets::None => {
            let rules = Rules::from([(libc::SYS_socket, Vec::new())]);
            seccompiler::apply_filter(&deny(rules, libc::EPERM)?).map_err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_compiles() {
        let rules = worker_rules(false).unwrap();
        assert!(rules.len() > DENIED.len());
        let program = deny(rules, libc::EPERM).unwrap();
        assert!(program.len() < 4096, "the kernel's limit of one filter: {}", program.len());
    }
}
