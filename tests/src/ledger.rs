//! What the ledger tool wrote (`src/bin/ledger.rs`): the one book of side effects that no part of the gateway touches.

use crate::executables;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// File in the workspace that the tool appends to.
pub const FILE: &str = "ledger.txt";

/// One line: which call, for which messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `call-<number of the request to the model>`.
    pub call: String,
    pub marks: Vec<String>,
}

/// Puts the tool into a workspace, where the agent's tools may run it whatever they are confined to.
pub fn install(workspace: &Path) {
    let to = workspace.join("ledger");
    fs::copy(program(), &to).expect("the ledger tool can be copied");
}

/// The command that the scripted model calls.
pub fn command() -> String {
    format!("./ledger {FILE} call-{{n}} {{marks}}")
}

/// All lines so far.
pub fn read(workspace: &Path) -> Vec<Line> {
    let text = fs::read_to_string(workspace.join(FILE)).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Line { call: words.next().unwrap_or_default(), marks: words.collect() }
    };
    text.lines().map(line).collect()
}

/// Calls that ran more than once.
pub fn repeated(lines: &[Line]) -> Vec<String> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        *times.entry(&line.call).or_default() += 1;
    }
    times.into_iter().filter(|(_, n)| *n > 1).map(|(call, n)| format!("{call} ran {n} times")).collect()
}

/// The built tool: it lies beside the tests' other programs.
fn program() -> &'static Path {
    static BUILT: OnceLock<std::path::PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = executables::of_this_crate("ledger");
        if !built.exists() {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let status =
                Command::new(cargo).args(["build", "--quiet", "-p", "tests", "--bin", "ledger"]).status();
            assert!(status.is_ok_and(|status| status.success()), "the ledger tool does not build");
        }
        built
    })
}
