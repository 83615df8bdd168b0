//! Hostile paths for the tools that work on files inside of the worker: `read`, `write`, `edit`, `apply_patch`, `grep`, `find`, `ls`.
//! A worker may read its own state; a tool may not, whatever way the path takes.

use super::scene::{NOBODY, Scene, scripted};
use harness::model_server::{Call, Reply};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// In every target: a result that holds it has read what it may not.
const MARKER: &str = "MARKER-5e1f";
/// Calls of one reply of the model.
const CALLS_AT_ONCE: usize = 24;

/// Files that no tool of agent `main` may reach.
fn targets(scene: &Scene) -> Vec<(&'static str, PathBuf)> {
    let plan = &scene.plan;
    let planted = |name: &str, below: &Path| {
        let path = below.join(name);
        fs::write(&path, format!("{MARKER}\n")).expect("a file");
        path
    };
    let found = vec![
        ("state", planted("marker.txt", &plan.state)),
        ("other-workspace", planted("marker.txt", &plan.state.join("workspace-other"))),
        ("other-agent", planted("marker.txt", &plan.state.join("agents/other/sessions"))),
        ("own-agent", planted("marker.txt", &plan.state.join("agents/main/sessions"))),
        ("credentials", planted("marker.txt", &plan.state.join("credentials"))),
        ("ssh", planted("marker.txt", &plan.home.join(".ssh"))),
    ];
    if let Some(user) = scene.user {
        harness::gateway::give(&plan.home, user);
    }
    found
}

/// Ways to write a path.
fn ways(scene: &Scene, name: &str, target: &Path) -> Vec<(&'static str, String)> {
    let (plan, absolute) = (&scene.plan, target.display().to_string());
    let up: String = plan.workspace.components().skip(1).map(|_| "../").collect();
    let (link, root) = (format!("to-{name}"), format!("root-of-{name}"));
    // As hostile code would have left them, before the walls were there.
    symlink(target, plan.workspace.join(&link)).expect("a link");
    symlink("/", plan.workspace.join(&root)).expect("a link");
    vec![
        ("absolute", absolute.clone()),
        ("dotdot", format!("{up}{}", absolute.trim_start_matches('/'))),
        ("self-root", format!("/proc/self/root{absolute}")),
        ("thread-root", format!("/proc/thread-self/root{absolute}")),
        ("supervisor-root", format!("/proc/{}/root{absolute}", plan.supervisor)),
        ("other-worker-root", format!("/proc/{}/root{absolute}", plan.other_worker)),
        ("own-worker-root", format!("/proc/{}/root{absolute}", plan.own_worker)),
        ("symlink", link),
        ("symlink-of-root", format!("{root}{absolute}")),
        ("file-url", format!("file://{absolute}")),
    ]
}

fn call(name: &str, arguments: Value) -> Call {
    Call { name: name.to_owned(), arguments, id: None }
}

/// What each tool does with a path.
fn calls(path: &str) -> Vec<Call> {
    let parent = Path::new(path).parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.map_or_else(|| path.to_owned(), |parent| parent.display().to_string());
    let update = format!("*** Begin Patch\n*** Update File: {path}\n@@\n-{MARKER}\n+gone\n*** End Patch");
    vec![
        call("read", json!({"path": path})),
        call("grep", json!({"pattern": "MARKER", "path": path})),
        call("grep", json!({"pattern": "MARKER", "path": parent})),
        call("find", json!({"pattern": "**/marker*", "path": parent})),
        call("ls", json!({"path": parent})),
        call("edit", json!({"path": path, "oldText": MARKER, "newText": "gone"})),
        call("apply_patch", json!({"input": update})),
        call("write", json!({"path": path, "content": "gone"})),
    ]
}

/// Whether a result shows what lies outside: the marker itself, or the name of its file in a listing.
fn shows(call: &Call, result: &str) -> bool {
    let named = matches!(call.name.as_str(), "find" | "ls")
        && result.lines().any(|line| {
            let line = line.trim().trim_start_matches("./");
            line == "marker.txt" || line.ends_with("/marker.txt") && !line.contains(' ')
        });
    // A refusal may repeat the text that was looked for.
    let read = matches!(call.name.as_str(), "read" | "grep") && result.contains(MARKER);
    named || read
}

async fn attacked(user: Option<u32>) {
    let scene = Scene::new(scripted(&[]), user, json!({})).await;
    let mut attempts: Vec<(String, Call)> = Vec::new();
    let targets = targets(&scene);
    for (name, target) in &targets {
        for (way, path) in ways(&scene, name, target) {
            attempts.extend(
                calls(&path).into_iter().map(|call| (format!("{} {name} by {way}", call.name), call)),
            );
        }
    }
    let mut holes = Vec::new();
    for some in attempts.chunks(CALLS_AT_ONCE) {
        let tool_calls = some.iter().map(|(_, call)| call.clone()).collect();
        scene.model.say_next("attack", Reply { text: String::new(), tool_calls, ..Reply::default() });
        let results = scene.attack("attack").await;
        assert_eq!(results.len(), some.len(), "every call is answered: {results:?}");
        for ((name, call), result) in some.iter().zip(&results) {
            if shows(call, result) {
                holes.push(format!("{name}: {result}"));
            }
        }
    }
    for (name, target) in &targets {
        let now = fs::read_to_string(target).unwrap_or_default();
        if now != format!("{MARKER}\n") {
            holes.push(format!("{name} was changed: {now:?}"));
        }
    }
    println!("{} calls of file tools with hostile paths, {} let through", attempts.len(), holes.len());
    assert!(holes.is_empty(), "{holes:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_leads_a_file_tool_out() {
    attacked(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_leads_a_file_tool_of_an_ordinary_user_out() {
    if rustix::process::getuid().is_root() {
        attacked(Some(NOBODY)).await;
    }
}
