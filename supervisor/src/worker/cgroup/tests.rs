//! Over ordinary files that look like a host's with all controllers; what the kernel does with them is `tests/it/cgroup.rs`'s.

use super::limits::{Account, InForce, Limits};
use super::*;
use proto::wire::isolation::{Policy, ToolPolicy};

fn group_with_files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["memory.max", "memory.oom.group", "pids.max", "cpu.weight"] {
        fs::write(folder.path().join(file), "max\n").unwrap();
    }
    folder
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

#[test]
fn limits_are_written_where_the_host_counts_and_nowhere_else() {
    let folder = group_with_files();
    let channel = Limits::of(&WorkerId::channel("telegram", "default"), None);
    Group::make(folder.path().to_owned(), &channel).unwrap();
    assert_eq!(read(folder.path(), "memory.max"), (256 * 1024 * 1024).to_string());
    assert_eq!(read(folder.path(), "memory.oom.group"), "1");
    assert_eq!(read(folder.path(), "pids.max"), "64");
    let bare = tempfile::tempdir().unwrap();
    Group::make(bare.path().to_owned(), &channel).unwrap();
    assert_eq!(fs::read_dir(bare.path()).unwrap().count(), 0);
}

#[test]
fn an_agents_group_holds_a_command_at_its_own_limit() {
    let tool = ToolPolicy { memory_mb: 100, processes: 10, ..ToolPolicy::default() };
    let policy = Policy { tool: Some(tool), ..Policy::default() };
    let folder = group_with_files();
    let limits = Limits::of(&WorkerId::agent("main"), Some(&policy));
    Group::make(folder.path().to_owned(), &limits).unwrap();
    let shown = serde_json::to_value(InForce::read(folder.path())).unwrap();
    assert_eq!(shown["text"], "memory 868 MiB, 296 tasks, processor share 100");
    assert_eq!(shown["memoryMax"], (768 + 100) * 1024 * 1024);
    assert_eq!(read(folder.path(), "memory.oom.group"), "0", "a command must not end its worker");
}

#[test]
fn no_limit_is_told_as_none() {
    let shown = InForce::read(group_with_files().path());
    assert_eq!((shown.memory_max, shown.tasks_max), (None, None));
    assert_eq!(shown.text, "own group, no limits");
}

#[test]
fn a_kill_for_memory_counts_while_it_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let kills =
        |n: u64| fs::write(folder.path().join("memory.events"), format!("oom 9\noom_kill {n}\n")).unwrap();
    let group = |folder: &Path| Group { seen: Seen::of(folder), folder: folder.to_owned() };
    assert_eq!(group(folder.path()).oom_since(), None, "not counted: the host's counter decides");
    kills(3);
    let mut group = group(folder.path());
    assert_eq!(group.oom_since(), Some(false), "before this start");
    kills(4);
    group.look_at_oom();
    assert_eq!(group.oom_since(), Some(true), "just before the last look");
    group.look_at_oom();
    assert_eq!(group.oom_since(), Some(false), "a command, long ago");
    fs::write(folder.path().join("memory.max"), "1048576").unwrap();
    fs::write(folder.path().join("pids.events"), "max 2\n").unwrap();
    let account = Account::of(folder.path());
    assert_eq!((account.oom_kills, account.tasks_refused), (Some(4), Some(2)));
    assert!(account.text().is_some_and(|text| text.contains("may use 1 MiB")), "{account:?}");
}

#[test]
fn what_a_host_does_not_give_is_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cgroup.controllers"), "cpuset pids hugetlb\n").unwrap();
    fs::write(folder.path().join("cgroup.subtree_control"), "").unwrap();
    enable(folder.path());
    assert_eq!(read(folder.path(), "cgroup.subtree_control"), "+pids");
    fs::write(folder.path().join("cgroup.subtree_control"), "cpuset memory\n").unwrap();
    fs::write(folder.path().join("cgroup.controllers"), "").unwrap();
    assert_eq!(enable(folder.path()), ["memory"], "as the kernel says afterwards");
}

#[test]
fn leftovers_go_and_the_workers_that_go_on_stay() {
    let folder = tempfile::tempdir().unwrap();
    let agent = WorkerId::agent("main");
    for group in ["agent_main.7", "agent_main.8", "channel_x_y.3/inner"] {
        fs::create_dir_all(folder.path().join(group)).unwrap();
    }
    let ours = Ours { workers: folder.path().to_owned(), controllers: Vec::new() };
    ours.sweep(&[name(&agent, 8)].into());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["agent_main.8"]);
    let groups = Groups(Ok(ours));
    assert!(groups.find(&agent, 8).is_some() && groups.find(&agent, 7).is_none());
    assert!(groups.text().contains("no controllers"), "{}", groups.text());
}

#[test]
fn a_gateway_without_a_subtree_makes_no_groups() {
    let groups = Groups::none();
    let limits = Limits::of(&WorkerId::agent("main"), None);
    assert!(groups.make(&WorkerId::agent("main"), 1, &limits).is_none());
    assert!(groups.text().starts_with("none: "));
}
