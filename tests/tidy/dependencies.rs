//! What may be linked, once.

use super::root;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).current_dir(root()).args(args).output().expect("cargo can be run");
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

fn packages() -> &'static Vec<Value> {
    static METADATA: OnceLock<Vec<Value>> = OnceLock::new();
    METADATA.get_or_init(|| {
        let text = cargo(&["metadata", "--format-version", "1", "--locked"]);
        let metadata: Value = serde_json::from_str(&text).expect("metadata is JSON");
        metadata["packages"].as_array().cloned().unwrap_or_default()
    })
}

#[test]
fn the_supervisor_links_no_client_no_model_no_channel() {
    let tree = cargo(&["tree", "-p", "supervisor", "-e", "normal", "--prefix", "none", "--locked"]);
    let linked: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    for forbidden in ["reqwest", "native-tls", "image", "pulldown-cmark", "worker-agent", "worker-channel"] {
        assert!(!linked.contains(&forbidden), "the supervisor must not link {forbidden}");
    }
    assert!(linked.contains(&"hyper"), "the list is read right");
}

#[test]
fn crates_that_must_exist_once_do() {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages() {
        let (name, version) =
            (package["name"].as_str().unwrap_or(""), package["version"].as_str().unwrap_or(""));
        versions.entry(name).or_default().push(version);
    }
    for name in ["reqwest", "rustls", "libsqlite3-sys", "hyper", "tokio", "tokio-tungstenite", "ring"] {
        assert_eq!(versions.get(name).map_or(0, Vec::len), 1, "{name}: {:?}", versions.get(name));
    }
    for name in ["openssl-sys", "aws-lc-sys", "aws-lc-rs"] {
        assert!(!versions.contains_key(name), "{name} needs a tool chain that a user may not have");
    }
}

/// Licences that may be linked into an MIT program without a further condition on its users.
const PERMISSIVE: [&str; 16] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "Unlicense",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "BSL-1.0",
    "MPL-2.0",
    "CDLA-Permissive-2.0",
];

/// SPDX expression: one side of an OR is enough, all sides of an AND are needed.
fn is_permissive(expression: &str) -> bool {
    let expression = expression.replace(['(', ')'], "").replace('/', " OR ");
    expression.split(" AND ").all(|all| all.split(" OR ").any(|one| PERMISSIVE.contains(&one.trim())))
}

#[test]
fn all_licences_are_permissive() {
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or("");
        let name = package["name"].as_str().unwrap_or("");
        assert!(is_permissive(licence), "{name} is under \"{licence}\"");
    }
    assert!(
        !is_permissive("GPL-3.0") && !is_permissive("MIT AND GPL-3.0") && is_permissive("MIT OR GPL-3.0")
    );
}
