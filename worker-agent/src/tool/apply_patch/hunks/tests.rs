use proptest::prelude::*;

use super::*;
use crate::tool::apply_patch::parse::{self, Operation, ParseError};

fn hunks_of(body: &str) -> Vec<Hunk> {
    let patch = parse::patch(&format!("*** Begin Patch\n*** Update File: f\n{body}\n*** End Patch")).unwrap();
    match patch.files.into_iter().next() {
        Some((_, Operation::Update { hunks, .. })) => hunks,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hunks_are_found_by_their_lines() {
    let text = "fn a() {\n    one();\n}\nfn b() {\n    one();\n}\n";
    let got = apply(text, &hunks_of("@@ fn b() {\n-    one();\n+    two();"));
    assert_eq!(got, Ok("fn a() {\n    one();\n}\nfn b() {\n    two();\n}\n".into()));
    let got = apply(text, &hunks_of("@@\n-    one();\n+    1;\n@@\n-    one();\n+    2;"));
    assert_eq!(got, Ok("fn a() {\n    1;\n}\nfn b() {\n    2;\n}\n".into()));
    let got = apply(text, &hunks_of("@@\n-one();  \n+x"));
    assert_eq!(
        got.map(|t| t.lines().nth(1).map(str::to_owned)),
        Ok(Some("x".into())),
        "indentation is forgiven"
    );
    assert!(matches!(apply(text, &hunks_of("@@ fn c() {\n-x")), Err(HunkError::NoContext(_))));
    assert!(matches!(apply(text, &hunks_of("@@\n-nothing")), Err(HunkError::NoMatch(_))));
}

#[test]
fn ends_of_files_and_lines_stay() {
    assert_eq!(apply("a\r\nb\r\n", &hunks_of("-b\n+c")), Ok("a\r\nc\r\n".into()));
    assert_eq!(apply("a\nb", &hunks_of("-b\n+c")), Ok("a\nc".into()));
    assert_eq!(apply("x\na\nx\n", &hunks_of("@@\n-x\n+y\n*** End of File")), Ok("x\na\ny\n".into()));
    assert_eq!(apply("a\n", &hunks_of("+b")), Ok("a\nb\n".into()));
    assert_eq!(apply("", &hunks_of("+b")), Ok("b\n".into()));
    assert_eq!(apply("a\n", &hunks_of("-a")), Ok(String::new()));
    assert_eq!(
        apply("a\nb\nd\n", &hunks_of("-b\n+c\n\n")),
        Ok("a\nc\nd\n".into()),
        "blank lines before a marker"
    );
}

#[test]
fn a_patch_is_parsed_with_its_wrappings() {
    let body = "*** Begin Patch\n*** Add File: a b.txt\n+one\n+\n+two\n*** Delete File: old\n*** Update File: x\n*** Move to: y\n@@\n-1\n+2\n*** End Patch";
    let plain = parse::patch(body).unwrap();
    assert_eq!(plain.files.len(), 3);
    assert_eq!(plain.files[0], ("a b.txt".into(), Operation::Add { content: "one\n\ntwo\n".into() }));
    assert!(
        matches!(&plain.files[2].1, Operation::Update { moved: Some(to), hunks } if to == "y" && hunks.len() == 1)
    );
    for wrapped in [
        format!("apply_patch <<'EOF'\n{body}\nEOF"),
        format!("<<\"X\"\n{body}\nX\n"),
        format!("\n\n{body}\n\n"),
    ] {
        assert_eq!(parse::patch(&wrapped), Ok(plain.clone()), "{wrapped}");
    }
}

#[test]
fn mistakes_are_named_with_their_line() {
    let parse = |body: &str| parse::patch(&format!("*** Begin Patch\n{body}\n*** End Patch"));
    assert_eq!(parse::patch("hello"), Err(ParseError::NoBegin));
    assert_eq!(parse::patch("*** Begin Patch\nx"), Err(ParseError::NoEnd));
    assert_eq!(parse("x"), Err(ParseError::NoFile(2, "x".into())));
    assert_eq!(parse("*** Add File: a\nx"), Err(ParseError::NotAdded(3, "x".into())));
    assert_eq!(parse("*** Update File: a\n@@\n?"), Err(ParseError::NotInHunk(4, "?".into())));
    assert_eq!(parse("*** Update File: a"), Err(ParseError::NoHunk(2, "a".into())));
    assert_eq!(parse("*** Delete File:"), Err(ParseError::NoPath(2)));
}

fn patch_text() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "*** Begin Patch",
        "*** End Patch",
        "*** Update File: a",
        "*** Add File: b",
        "*** Delete File: c",
        "*** Move to: d",
        "*** End of File",
        "@@",
        "@@ x",
        "@@ä",
        "+x",
        "-x",
        " x",
        " ",
        "",
        "+",
        "-",
        "\r",
        "<<EOF",
        "EOF",
        "é",
    ]);
    prop::collection::vec(line, 0..16).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_and_any_hunk_applied_or_refused(text in patch_text(), wrap in any::<bool>(), file in "[x\n\r é]{0,20}") {
        let text = if wrap { format!("*** Begin Patch\n*** Update File: a\n{text}\n*** End Patch") } else { text };
        let Ok(patch) = parse::patch(&text) else { return Ok(()) };
        for (_, operation) in patch.files {
            if let Operation::Update { hunks, .. } = operation {
                let _ = apply(&file, &hunks);
            }
        }
    }

    #[test]
    fn a_change_of_one_unique_line_is_that_change(lines in prop::collection::vec("[a-e]{0,4}", 1..12), at in any::<prop::sample::Index>(), new in "[x-z]{1,4}") {
        let at = at.index(lines.len());
        let mut before = lines.clone();
        before[at] = "UNIQUE".into();
        let mut after = lines;
        after[at] = new.clone();
        let hunk = Hunk { old: vec!["UNIQUE".into()], new: vec![new], ..Hunk::default() };
        prop_assert_eq!(apply(&(before.join("\n") + "\n"), &[hunk]), Ok(after.join("\n") + "\n"));
    }
}
