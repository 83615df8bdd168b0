//! Files and functions stay small enough to be read in one go.

use super::{report, sources};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const INLINE_TEST_LINES_MAX: usize = 80;

const CRATES: [&str; 4] = ["proto", "supervisor", "worker-agent", "worker-channel"];

#[test]
fn no_file_is_longer_than_500_lines() {
    let long = sources(&CRATES)
        .into_iter()
        .filter(|source| !source.is_test())
        .map(|source| (source.text.lines().count(), source.path))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX);
    report(
        "files above 500 lines",
        &long.map(|(lines, path)| format!("{path}: {lines}")).collect::<Vec<_>>(),
    );
}

/// A function begins at a line with `fn name(` and ends at the line of the closing brace with the same indent.
fn long_functions(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let head = line.trim_start();
        let is_fn = ["fn ", "pub fn ", "async fn ", "pub async fn ", "const fn ", "pub const fn "]
            .iter()
            .any(|prefix| head.starts_with(prefix))
            || (head.starts_with("pub(") && head.contains(") fn ") | head.contains(") async fn "));
        if !is_fn {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let end = lines.iter().skip(start).position(|line| *line == close);
        if let Some(length) = end.map(|end| end + 1).filter(|length| *length > FUNCTION_LINES_MAX) {
            found.push(format!("{path}:{}: {length} lines", start + 1));
        }
    }
    found
}

#[test]
fn no_function_is_longer_than_70_lines() {
    let all = sources(&CRATES);
    let checked = all.iter().filter(|source| !source.is_test());
    let long: Vec<String> = checked.flat_map(|source| long_functions(&source.path, &source.text)).collect();
    report("functions above 70 lines", &long);
}

#[test]
fn the_function_rule_sees_a_long_function() {
    let body = "    let x = 1;\n".repeat(FUNCTION_LINES_MAX);
    assert_eq!(long_functions("a.rs", &format!("pub async fn f() {{\n{body}}}\n")).len(), 1);
}

#[test]
fn inline_tests_are_short_or_in_a_file_of_their_own() {
    let mut long = Vec::new();
    for source in sources(&CRATES) {
        if let Some((_, tests)) = source.text.split_once("#[cfg(test)]\nmod tests {") {
            let lines = tests.lines().count();
            if lines > INLINE_TEST_LINES_MAX + 2 {
                long.push(format!("{}: {lines} lines of inline tests", source.path));
            }
        }
    }
    report("inline tests above 80 lines", &long);
}

#[test]
fn there_is_no_mod_rs() {
    let found = sources(&CRATES).into_iter().filter(|source| source.path.ends_with("/mod.rs"));
    report("mod.rs files (use name.rs beside name/)", &found.map(|source| source.path).collect::<Vec<_>>());
}
