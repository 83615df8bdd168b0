//! Whether a subtree of control groups is ours to arrange. Facts are gathered here and judged by a pure function.
//!
//! That it can be written says little: root can write everywhere. It is ours when the service manager has marked it
//! (`Delegate=` sets an attribute), or when it is the top of a container's own namespace; and only while nobody else lives in
//! it.

use super::SUPERVISOR;
use proto::runtime::cgroup::{mount_in, path_in};
use rustix::fs::Access;
use std::fs;
use std::path::{Path, PathBuf};

/// Set by systemd on what it delegates; the second is for root's eyes only, and older.
const MARKS: [&str; 2] = ["user.delegate", "trusted.delegate"];
/// A mark is one letter.
const MARK_BYTES_MAX: usize = 16;

/// A subtree of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub base: PathBuf,
    /// This process still stands in `base`, which has to be empty before controllers work below it.
    pub move_aside: bool,
}

/// What was found out about one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The root of the hierarchy has no type; all other groups are `domain` unless their threads are spread.
    pub kind: Option<String>,
    /// Marked as delegated.
    pub marked: bool,
    /// The topmost group that this process can see.
    pub top: bool,
    /// Processes can be put into it and controllers switched on.
    pub writable: bool,
    /// Processes in it, without this one. 0 stands for one outside of our process namespace.
    pub others: Vec<u32>,
}

/// Why a group is not ours.
///
/// # Errors
/// The reason, for people.
pub fn judge(facts: &Facts) -> Result<(), String> {
    let Some(kind) = &facts.kind else {
        return Err(
            "the gateway runs in the host's topmost control group, which belongs to everybody".to_owned()
        );
    };
    if !facts.marked && !facts.top {
        return Err(
            "the gateway's control group is not delegated to it (a service that `openclaw service install` makes is)".to_owned()
        );
    }
    if !facts.writable {
        return Err("the gateway's control group is read-only".to_owned());
    }
    if kind != "domain" {
        return Err(format!(
            "the gateway's control group is of the type \"{kind}\", which no process can be moved in"
        ));
    }
    match facts.others.as_slice() {
        [] => Ok(()),
        [0, ..] => Err("processes from outside live in the gateway's control group".to_owned()),
        [pid, ..] => Err(format!("process {pid} lives in the gateway's control group too")),
    }
}

/// The subtree of this process.
///
/// # Errors
/// Why there is none, for people.
pub fn own() -> Result<Place, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let Some(mount) = mount_in(&read("/proc/self/mountinfo")?) else {
        return Err("the host has no control groups of version 2".to_owned());
    };
    let cgroup = read("/proc/self/cgroup")?;
    let Some(path) = path_in(&cgroup) else {
        return Err("this process is in no control group of version 2".to_owned());
    };
    let Some(folder) = mount.folder(path) else {
        return Err(format!("the control group {path} is not mounted here"));
    };
    find(path, &folder, facts)
}

/// `path`: of the process's group in its namespace. A process that has moved aside already finds its subtree one level up.
fn find(path: &str, folder: &Path, look: impl Fn(&Path, bool) -> Facts) -> Result<Place, String> {
    if let (Some(above), Some((parent, SUPERVISOR))) = (folder.parent(), path.rsplit_once('/'))
        && judge(&look(above, parent.is_empty())).is_ok()
    {
        return Ok(Place { base: above.to_owned(), move_aside: false });
    }
    judge(&look(folder, path == "/"))?;
    Ok(Place { base: folder.to_owned(), move_aside: true })
}

fn facts(folder: &Path, top: bool) -> Facts {
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let may = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    let own = std::process::id();
    let others = read("cgroup.procs").unwrap_or_default();
    Facts {
        kind: read("cgroup.type").map(|kind| kind.trim().to_owned()),
        marked: MARKS.iter().any(|mark| is_marked(folder, mark)),
        top,
        writable: may(folder)
            && may(&folder.join("cgroup.procs"))
            && may(&folder.join("cgroup.subtree_control")),
        others: others
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .filter(|pid| *pid != own)
            .collect(),
    }
}

fn is_marked(folder: &Path, mark: &str) -> bool {
    let mut value = [0_u8; MARK_BYTES_MAX];
    let bytes = rustix::fs::getxattr(folder, mark, &mut value[..]).unwrap_or(0);
    value.get(..bytes) == Some(b"1".as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delegated() -> Facts {
        Facts { kind: Some("domain".into()), marked: true, top: false, writable: true, others: Vec::new() }
    }

    #[test]
    fn only_what_was_given_to_us_is_ours() {
        let why = |facts: Facts| judge(&facts).err().unwrap_or_default();
        assert_eq!(judge(&delegated()), Ok(()));
        assert_eq!(judge(&Facts { marked: false, top: true, ..delegated() }), Ok(()), "a container's own");
        assert!(
            why(Facts { kind: None, top: true, ..delegated() }).contains("topmost"),
            "root on a plain host"
        );
        assert!(why(Facts { marked: false, ..delegated() }).contains("not delegated"));
        assert!(why(Facts { writable: false, ..delegated() }).contains("read-only"), "Docker");
        assert!(why(Facts { kind: Some("threaded".into()), ..delegated() }).contains("threaded"));
        assert!(why(Facts { others: vec![7], ..delegated() }).contains("process 7"));
        assert!(why(Facts { others: vec![0], ..delegated() }).contains("outside"));
    }

    #[test]
    fn one_that_moved_aside_finds_its_subtree_again() {
        let unit = Path::new("/c/a.service");
        let look = |folder: &Path, top: bool| match folder == unit {
            true => Facts { top, ..delegated() },
            false => Facts { top, marked: false, ..delegated() },
        };
        let first = find("/a.service", unit, look);
        assert_eq!(first, Ok(Place { base: unit.into(), move_aside: true }));
        let again = find("/a.service/supervisor", &unit.join("supervisor"), look);
        assert_eq!(again, Ok(Place { base: unit.into(), move_aside: false }));
        let stranger = find("/b.service/supervisor", Path::new("/c/b.service/supervisor"), look);
        assert!(stranger.is_err_and(|why| why.contains("not delegated")));
        let container = find("/supervisor", Path::new("/c/supervisor"), |folder, top| Facts {
            top,
            marked: false,
            others: if folder == Path::new("/c/") { vec![] } else { vec![9] },
            ..delegated()
        });
        assert!(container.is_err() || container.is_ok_and(|place| !place.move_aside));
    }

    #[test]
    fn a_group_without_files_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(facts(folder.path(), false).kind, None);
        assert!(!is_marked(folder.path(), MARKS[0]));
    }
}
