//! Things that must not stand in the code.

use super::{report, sources};

const CRATES: [&str; 5] = ["proto", "supervisor", "worker-agent", "worker-channel", "tests"];

fn lines_with(words: &[&str], keep: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources(&CRATES) {
        if source.path.starts_with("tests/tidy/") {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) && keep(&source.path, line) {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn unsafe_lives_in_one_module() {
    let is_code = |line: &str| !line.trim_start().starts_with("//");
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code", "expect(unsafe_code"];
    // The attacker of the escape tests makes raw system calls; it is never shipped.
    let places = ["proto/src/runtime/sys.rs", "tests/src/bin/probe/raw.rs"];
    let found = lines_with(&words, |path, line| !places.contains(&path) && is_code(line));
    report("unsafe outside proto/src/runtime/sys.rs", &found);
}

/// Blocks of unsafe code in the tree. A new one is a decision: count it here.
const UNSAFE_BLOCKS: usize = 6;

#[test]
fn unsafe_blocks_are_counted_and_explained() {
    let sys = sources(&["proto/src/runtime"]).into_iter().find(|source| source.path.ends_with("/sys.rs"));
    let text = sys.map(|source| source.text).unwrap_or_default();
    let blocks = text.matches("unsafe {").count();
    assert_eq!(blocks, UNSAFE_BLOCKS, "the number of unsafe blocks changed: review it and change the count");
    let reasons = text.matches("// SAFETY:").count();
    assert!(reasons >= blocks, "each unsafe block says why it is sound");
}

#[test]
fn nothing_is_left_unfinished() {
    let found = lines_with(&["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX"], |_, _| true);
    report("unfinished code", &found);
}

#[test]
fn every_queue_has_a_bound() {
    let found = lines_with(&["unbounded_channel(", "unbounded::<", "mpsc::channel::<()>()"], |_, _| true);
    report("queues without a bound", &found);
}

/// An armed failpoint: the process under test sleeps, not the test.
fn is_failpoint(line: &str) -> bool {
    line.contains("=sleep(") || line.contains("->1*sleep(")
}

#[test]
fn tests_wait_on_conditions() {
    let is_test = |path: &str| {
        path.starts_with("tests/it") || path.starts_with("tests/chaos") || path.ends_with("/tests.rs")
    };
    // A failpoint's action of that name makes the gateway wait, not the test.
    let found = lines_with(&["sleep("], |path, line| is_test(path) && !is_failpoint(line));
    report("a test that sleeps (use the harness's wait)", &found);
}

#[test]
fn lints_are_expected_with_a_reason() {
    let found = lines_with(&["#[allow(", "#![allow("], |_, line| !line.contains("reason ="));
    report("allow without a reason", &found);
}
