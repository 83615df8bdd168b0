use serde_json::json;

use crate::{
    bench::bench,
    tool::{Block, Effect, Progress, ToolCall, registry::Registry},
};

#[tokio::test]
async fn read_pages_and_says_how_to_go_on() {
    let bench = bench();
    bench.put("five.txt", "1\n2\n3\n4\n5\n");
    assert_eq!(bench.ok("read", json!({"path": "five.txt"})).await, "1\n2\n3\n4\n5\n");
    assert_eq!(
        bench.ok("read", json!({"file_path": "@five.txt", "offset": "2", "limit": 2})).await,
        "2\n3\n\n[2 more lines. Use offset=4 to continue.]"
    );
    let beyond = bench.err("read", json!({"path": "five.txt", "offset": 9})).await;
    assert_eq!(beyond, "Offset 9 is beyond the end of five.txt (5 lines in all)");
    bench.put("empty", "");
    assert_eq!(bench.ok("read", json!({"path": "empty"})).await, "");
    let many: String = (1..=2500).map(|n| format!("{n}\n")).collect();
    bench.put("many", many);
    let page = bench.ok("read", json!({"path": "many"})).await;
    assert!(page.ends_with("2000\n\n[500 more lines. Use offset=2001 to continue.]"), "{page}");
    bench.put("wide", format!("{}\n", "x".repeat(1000)).repeat(100));
    let page = bench.ok("read", json!({"path": "wide"})).await;
    assert!(
        page.len() < 52_000 && page.ends_with("[49 more lines. Use offset=52 to continue.]"),
        "{}",
        page.len()
    );
    bench.put("long", format!("{}\nend\n", "x".repeat(60_000)));
    let page = bench.ok("read", json!({"path": "long"})).await;
    assert!(page.starts_with("[Line 1 has 58.6KB") && page.contains("sed -n '1p' 'long'"), "{page}");
}

#[tokio::test]
async fn read_refuses_what_has_no_text() {
    let bench = bench();
    assert_eq!(bench.err("read", json!({"path": "nope"})).await, "File not found: nope");
    assert!(bench.err("read", json!({"path": "."})).await.contains("is a directory"));
    assert!(bench.err("read", json!({"path": "/dev/zero"})).await.contains("not a regular file"));
    bench.put("bin", [1, 2, 0, 3]);
    assert!(bench.err("read", json!({"path": "bin"})).await.contains("binary file"));
    let missing = bench.err("read", json!({"offset": 1})).await;
    assert!(missing.starts_with("Missing required parameter: path (path or file_path"), "{missing}");
}

#[tokio::test]
async fn read_shows_images() {
    let mut bench = bench();
    bench.put("p.dat", b"\x89PNG\r\n\x1a\nrest");
    let outcome = bench.call("read", json!({"path": "p.dat"})).await;
    let image = outcome.content.iter().find(|block| matches!(block, Block::Image { .. }));
    assert_eq!(image, Some(&Block::Image { data: "iVBORw0KGgpyZXN0".into(), mime_type: "image/png".into() }));
    bench.settings(|settings| settings.image_bytes_max = 5);
    assert!(bench.err("read", json!({"path": "p.dat"})).await.contains("make it smaller"));
}

#[tokio::test]
async fn write_creates_and_replaces() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = bench();
    let text = bench.ok("write", json!({"path": "a/b/c.txt", "content": "häl"})).await;
    assert_eq!(text, "Successfully wrote 4 bytes to a/b/c.txt");
    let path = bench.env.workspace.join("a/b/c.txt");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&path, bench.env.workspace.join("link")).unwrap();
    bench.ok("write", json!({"path": "link", "content": "new"})).await;
    assert_eq!(bench.get("a/b/c.txt"), "new");
    assert!(bench.env.workspace.join("link").is_symlink());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    assert!(bench.err("write", json!({"path": ".", "content": ""})).await.contains("not a regular file"));
}

#[tokio::test]
async fn edit_replaces_one_exact_piece() {
    let bench = bench();
    bench.put("f", "a\nb\nc\n");
    let outcome = bench.call("edit", json!({"file_path": "f", "old_string": "b", "new_string": "B"})).await;
    assert_eq!(outcome.joined_text(), "Successfully replaced text in f.");
    let details = outcome.details.unwrap();
    assert_eq!(
        (&details["diff"], &details["firstChangedLine"]),
        (&json!("@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"), &json!(2))
    );
    assert_eq!(bench.get("f"), "a\nB\nc\n");
    let not_found = bench.err("edit", json!({"path": "f", "oldText": "zz", "newText": ""})).await;
    assert!(not_found.starts_with("Could not find the exact text in f."));
    bench.put("f", "x x");
    assert!(
        bench
            .err("edit", json!({"path": "f", "oldText": "x", "newText": "y"}))
            .await
            .contains("Found 2 occurrences")
    );
    assert!(
        bench
            .err("edit", json!({"path": "f", "oldText": "x x", "newText": "x x"}))
            .await
            .contains("No changes made")
    );
    let missing = bench.err("edit", json!({"path": "f", "oldText": "x"})).await;
    assert!(missing.ends_with("Supply correct parameters before retrying."), "{missing}");
}

#[tokio::test]
async fn a_patch_changes_all_its_files_or_none() {
    let bench = bench();
    bench.put("mod.txt", "one\ntwo\n");
    bench.put("old.txt", "x\n");
    bench.put("from.txt", "a\nb\n");
    let patch = "*** Begin Patch\n*** Add File: sub/new.txt\n+hello\n*** Update File: mod.txt\n@@\n one\n-two\n+2\n*** Update File: from.txt\n*** Move to: to.txt\n@@\n-b\n+c\n*** Delete File: old.txt\n*** End Patch";
    let text = bench.ok("apply_patch", json!({"input": patch})).await;
    assert_eq!(text, "Success. Updated the following files:\nA sub/new.txt\nM mod.txt\nM to.txt\nD old.txt");
    assert_eq!(
        (bench.get("mod.txt"), bench.get("to.txt"), bench.get("sub/new.txt")),
        ("one\n2\n".into(), "a\nc\n".into(), "hello\n".into())
    );
    assert!(!bench.env.workspace.join("from.txt").exists() && !bench.env.workspace.join("old.txt").exists());

    let bad = "*** Begin Patch\n*** Delete File: mod.txt\n*** Update File: to.txt\n@@\n-zzz\n*** End Patch";
    let text = bench.err("apply_patch", json!({"input": bad})).await;
    assert!(text.starts_with("to.txt: failed to find the expected lines"), "{text}");
    assert!(bench.env.workspace.join("mod.txt").exists());
    let outside = "*** Begin Patch\n*** Add File: ../x\n+y\n*** End Patch";
    let text = bench.err("apply_patch", json!({"input": outside})).await;
    assert!(text.contains("tools.exec.applyPatch.workspaceOnly"), "{text}");
    assert!(bench.err("apply_patch", json!({"input": "nonsense"})).await.contains("*** Begin Patch"));
}

#[tokio::test]
async fn the_workspace_is_a_fence_only_when_configured() {
    let mut bench = bench();
    let outside = bench.env.workspace.parent().unwrap().join("outside.txt");
    std::fs::write(&outside, "free").unwrap();
    assert_eq!(bench.ok("read", json!({"path": outside})).await, "free");
    assert_eq!(bench.ok("read", json!({"path": "~/outside.txt"})).await, "free");
    bench.settings(|settings| settings.workspace_only = true);
    std::os::unix::fs::symlink(&outside, bench.env.workspace.join("link")).unwrap();
    for path in ["../outside.txt", "~/outside.txt", "link"] {
        for (tool, args) in [
            ("read", json!({"path": path})),
            ("write", json!({"path": path, "content": "x"})),
            ("edit", json!({"path": path, "oldText": "free", "newText": "x"})),
            ("grep", json!({"path": path, "pattern": "free"})),
        ] {
            let text = bench.err(tool, args).await;
            assert!(text.contains("tools.fs.workspaceOnly"), "{tool} {path}: {text}");
        }
    }
    assert!(bench.err("ls", json!({"path": ".."})).await.contains("tools.fs.workspaceOnly"));
    assert!(bench.err("find", json!({"path": "/", "pattern": "*"})).await.contains("tools.fs.workspaceOnly"));
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "free");
    bench.ok("write", json!({"path": "new/file", "content": "x"})).await;
}

#[tokio::test]
async fn ls_find_and_grep_look_where_people_look() {
    let bench = bench();
    for (name, text) in [
        ("src/main.rs", "fn main() {\n    hello();\n}\n"),
        ("src/lib/deep.rs", "// Hello\r\nfn deep() {}\n"),
        (".hidden", "hello\n"),
        (".gitignore", "target\n"),
        ("target/out.rs", "hello\n"),
        (".git/config", "hello\n"),
    ] {
        bench.put(name, text);
    }
    bench.put("bin.dat", b"hello\0\n");
    assert_eq!(bench.ok("ls", json!({})).await, ".git/\n.gitignore\n.hidden\nbin.dat\nsrc/\ntarget/");
    assert_eq!(
        bench.ok("ls", json!({"path": "src", "limit": 1})).await,
        "lib/\n\n[1 entries limit reached; use limit for more]"
    );
    assert_eq!(bench.ok("find", json!({"pattern": "*.rs"})).await, "src/lib/deep.rs\nsrc/main.rs");
    assert_eq!(bench.ok("find", json!({"pattern": "src/*.rs"})).await, "src/main.rs");
    assert_eq!(bench.ok("find", json!({"pattern": "*.py"})).await, "No files found matching pattern");
    let limited = bench.ok("find", json!({"pattern": "*.rs", "limit": 1})).await;
    assert!(limited.ends_with("[1 results limit reached]"), "{limited}");

    let mut lines: Vec<String> = bench
        .ok("grep", json!({"pattern": "hello", "ignoreCase": true}))
        .await
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, [".hidden:1: hello", "src/lib/deep.rs:1: // Hello", "src/main.rs:2:     hello();"]);
    assert_eq!(
        bench.ok("grep", json!({"pattern": "hello();", "literal": true, "context": 1, "glob": "*.rs"})).await,
        "src/main.rs-1- fn main() {\nsrc/main.rs:2:     hello();\nsrc/main.rs-3- }"
    );
    assert_eq!(
        bench.ok("grep", json!({"pattern": "hello", "path": "src/main.rs"})).await,
        "main.rs:2:     hello();"
    );
    assert_eq!(bench.ok("grep", json!({"pattern": "zzz"})).await, "No matches found");
    assert!(bench.err("grep", json!({"pattern": "("})).await.contains("not a regular expression"));
    assert!(
        bench
            .err("grep", json!({"pattern": "x{1000}{1000}{1000}"}))
            .await
            .contains("not a regular expression")
    );
    assert_eq!(bench.err("ls", json!({"path": "nope"})).await, "Path not found: nope");
    assert_eq!(bench.err("ls", json!({"path": ".hidden"})).await, "Not a directory: .hidden");
    bench.put("flood", "match\n".repeat(500));
    let flood = bench.ok("grep", json!({"pattern": "match", "path": "flood"})).await;
    assert!(
        flood.contains("flood:100:")
            && !flood.contains("flood:101:")
            && flood.contains("100 matches limit reached")
    );
    bench.put("min.js", "y".repeat(5000));
    let cut = bench.ok("grep", json!({"pattern": "y", "path": "min.js"})).await;
    assert!(cut.len() < 700 && cut.contains("... [cut]"), "{cut}");
}

#[tokio::test]
async fn context_of_near_matches_is_shown_once() {
    let bench = bench();
    bench.put("f", "1\nx\n3\nx\n5\n6\n7\n8\nx\n");
    let text = bench.ok("grep", json!({"pattern": "x", "context": 1})).await;
    assert_eq!(text, "f-1- 1\nf:2: x\nf-3- 3\nf:4: x\nf-5- 5\n--\nf-8- 8\nf:9: x");
}

#[tokio::test]
async fn status_comes_from_its_source() {
    let bench = bench();
    assert_eq!(bench.ok("session_status", json!({})).await, "card of agent:main:main with its model");
    let other = bench.ok("session_status", json!({"sessionKey": "agent:main:x", "model": "default"})).await;
    assert_eq!(other, "card of agent:main:x with default");
    assert_eq!(
        bench.err("session_status", json!({"sessionKey": "agent:main:other"})).await,
        "no such session"
    );
}

#[tokio::test]
async fn a_registry_offers_only_what_is_allowed() {
    let bench = bench();
    let registry = Registry::of_all().only(&["read".to_owned()]);
    let call = ToolCall { id: "1".into(), name: "exec".into(), args: json!({"command": "true"}) };
    let outcome = registry.call(call, &bench.env, Progress::default()).await;
    assert_eq!((outcome.is_error, outcome.joined_text()), (true, "Tool exec not found".to_owned()));
    let all = Registry::of_all();
    assert_eq!(
        all.names(),
        [
            "read",
            "write",
            "edit",
            "apply_patch",
            "grep",
            "find",
            "ls",
            "exec",
            "process",
            "gateway",
            "session_status"
        ]
    );
    for definition in all.definitions() {
        assert_eq!(definition.parameters["type"], "object", "{}", definition.name);
        assert!(!definition.description.contains("  "), "{}", definition.name);
    }
    assert_eq!(all.get("Bash").map(|tool| tool.effect(&json!({}))), Some(Effect::Write));
}
