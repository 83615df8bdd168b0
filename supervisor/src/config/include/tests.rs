use super::*;
use crate::config::syntax::parse;
use serde_json::{Value, json};

fn expand(files: &[(&str, &str)]) -> Result<Value, String> {
    let dir = tempfile::tempdir().expect("dir");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        std::fs::write(path, text).expect("write");
    }
    let main = dir.path().join("openclaw.json");
    let text = std::fs::read_to_string(&main).expect("main");
    let mut includes = Includes::new(&main);
    let chain = vec![main.clone()];
    let result = includes.expand(parse(&text).expect("json5"), &chain);
    let root = dir.path().display().to_string();
    result.map(|tree| tree.to_value()).map_err(|error| error.to_string().replace(&root, "<dir>"))
}

#[test]
fn files_replace_merge_and_nest() {
    let value = expand(&[
        (
            "openclaw.json",
            "{ a: {$include: 'sub/a.json5', x: 2}, b: {$include: ['1.json', '2.json']}, __proto__: 1 }",
        ),
        ("sub/a.json5", "{ x: 1, y: {$include: './y.json'} }"),
        ("sub/y.json", "[1]"),
        ("1.json", "{ l: [1], o: {p: 1, q: 1} }"),
        ("2.json", "{ l: [2], o: {q: 2, constructor: 3} }"),
    ]);
    let wanted = json!({"a": {"x": 2, "y": [1]}, "b": {"l": [1, 2], "o": {"p": 1, "q": 2}}, "__proto__": 1});
    assert_eq!(value, Ok(wanted));
}

#[test]
fn refusals_have_the_known_texts() {
    let rows: [(&[(&str, &str)], &str); 8] = [
        (
            &[("openclaw.json", "{$include: 5}")],
            "Invalid $include value: expected string or array of strings, got number",
        ),
        (
            &[("openclaw.json", "{$include: 'l.json', a: 1}"), ("l.json", "[1]")],
            "Sibling keys require included content to be an object",
        ),
        (
            &[("openclaw.json", "{$include: '../x.json'}")],
            "Include path escapes config directory: ../x.json (root: <dir>)",
        ),
        (
            &[("openclaw.json", "{$include: '/etc/passwd'}")],
            "Include path escapes config directory: /etc/passwd (root: <dir>)",
        ),
        (
            &[("openclaw.json", "{$include: 'gone.json'}")],
            "Failed to read include file: gone.json (resolved: <dir>/gone.json)",
        ),
        (
            &[("openclaw.json", "{$include: 'bad.json'}"), ("bad.json", "{")],
            "Failed to parse include file: bad.json (resolved: <dir>/bad.json): SyntaxError: JSON5: invalid end of input at 1:2",
        ),
        (
            &[
                ("openclaw.json", "{$include: 'a.json'}"),
                ("a.json", "{$include: 'b.json'}"),
                ("b.json", "{$include: 'a.json'}"),
            ],
            "Circular include detected: <dir>/a.json -> <dir>/b.json -> <dir>/a.json",
        ),
        (
            &[("openclaw.json", "{$include: 'd'}"), ("d/x", "")],
            "Include file failed security checks (regular file, max 2097152 bytes, no hardlinks): d",
        ),
    ];
    for (files, wanted) in rows {
        assert_eq!(expand(files), Err(wanted.to_owned()));
    }
}

#[test]
fn depth_is_bounded() {
    let mut files: Vec<(String, String)> = vec![("openclaw.json".into(), "{$include: 'f1.json'}".into())];
    files.extend((1..=11).map(|n| (format!("f{n}.json"), format!("{{$include: 'f{}.json'}}", n + 1))));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(expand(&files), Err("Maximum include depth (10) exceeded at: f11.json".to_owned()));
}

#[test]
fn links_out_of_the_directory_and_hard_links_are_refused() {
    let outside = tempfile::tempdir().expect("dir");
    std::fs::write(outside.path().join("x.json"), "{}").expect("write");
    let dir = tempfile::tempdir().expect("dir");
    let main = dir.path().join("openclaw.json");
    std::os::unix::fs::symlink(outside.path().join("x.json"), dir.path().join("soft.json")).expect("link");
    std::fs::write(dir.path().join("real.json"), "{}").expect("write");
    std::fs::hard_link(dir.path().join("real.json"), dir.path().join("hard.json")).expect("link");
    for (name, wanted) in [("soft.json", "symlink"), ("hard.json", "no hardlinks")] {
        let tree = parse(&format!("{{$include: '{name}'}}")).expect("json5");
        let result = Includes::new(&main).expand(tree, std::slice::from_ref(&main));
        assert!(result.expect_err("refused").to_string().contains(wanted), "{name}");
    }
}
