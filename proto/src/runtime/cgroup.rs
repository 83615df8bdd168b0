//! Where control groups (version 2) lie, and what the kernel counts in them. Reads only: groups are made by the supervisor.

use std::fs;
use std::path::{Path, PathBuf};

/// One mount of the version-2 tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which group of the hierarchy stands at `point`, as this process's namespace names it.
    pub root: String,
    pub point: PathBuf,
}

/// The group of a process out of `/proc/<pid>/cgroup`: the line of version 2 begins with `0::`.
#[must_use]
pub fn path_in(cgroup: &str) -> Option<&str> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    // The kernel's mark for a group that was removed under its last process.
    (path.starts_with('/') && !path.ends_with(" (deleted)")).then_some(path)
}

/// The first mount of type `cgroup2` in the text of `/proc/<pid>/mountinfo`: `/sys/fs/cgroup`, or `…/unified` beside version 1.
#[must_use]
pub fn mount_in(mountinfo: &str) -> Option<Mount> {
    mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = place.split(' ').skip(3);
        let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
        Some(Mount { root, point: point.into() })
    })
}

/// Blanks and the like stand as three octal digits behind a backslash.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                out.push_str(part.get(3..).unwrap_or_default());
            }
            _ => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

impl Mount {
    /// The folder of a group. `None`: it lies outside of what is mounted here.
    #[must_use]
    pub fn folder(&self, path: &str) -> Option<PathBuf> {
        let below = match self.root.as_str() {
            "/" => path,
            root => path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))?,
        };
        // A path with `..` names a group outside of this process's namespace.
        let inside = !below.split('/').any(|part| part == "..");
        inside.then(|| self.point.join(below.trim_start_matches('/')))
    }
}

/// The folder of the group that a process (`self` or its number) is in. `None`: the host has no version 2, or it is not
/// mounted here.
#[must_use]
pub fn folder_of(process: &str) -> Option<PathBuf> {
    let mount = mount_in(&fs::read_to_string("/proc/self/mountinfo").ok()?)?;
    let cgroup = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    mount.folder(path_in(&cgroup)?)
}

/// Processes of a group that the kernel ended for want of memory, since the group was made. `None`: memory is not counted
/// there.
#[must_use]
pub fn oom_kills(folder: &Path) -> Option<u64> {
    kills_in(&fs::read_to_string(folder.join("memory.events")).ok()?)
}

fn kills_in(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_found_on_every_kind_of_host() {
        let only = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let beside = "37 31 0:34 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let inside = "9 8 0:26 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let blank = "9 8 0:26 / /mnt/a\\040b rw - cgroup2 none rw\n";
        let folder = |text: &str, path: &str| mount_in(text).and_then(|mount| mount.folder(path));
        assert_eq!(folder(only, "/a.slice/b.service"), Some("/sys/fs/cgroup/a.slice/b.service".into()));
        assert_eq!(folder(beside, "/"), Some("/sys/fs/cgroup/unified/".into()));
        assert_eq!(folder(inside, "/docker/ab/c"), Some("/sys/fs/cgroup/c".into()));
        assert_eq!(folder(inside, "/docker/abc"), None, "another container's");
        assert_eq!(folder(only, "/../b"), None, "outside of the namespace");
        assert_eq!(mount_in(blank).map(|mount| mount.point), Some("/mnt/a b".into()));
        assert_eq!(mount_in("1 2 0:3 / /proc rw - proc proc rw\n"), None);
    }

    #[test]
    fn the_line_of_version_two_is_taken() {
        assert_eq!(path_in("4:memory:/x\n0::/y/z\n"), Some("/y/z"));
        assert_eq!(path_in("4:memory:/x\n"), None);
        assert_eq!(path_in("0::/y (deleted)\n"), None);
    }

    #[test]
    fn kills_are_read_from_the_groups_own_events() {
        assert_eq!(kills_in("low 0\nhigh 7\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(kills_in(""), None);
        assert_eq!(oom_kills(Path::new("/nowhere")), None, "memory is not counted");
    }
}
