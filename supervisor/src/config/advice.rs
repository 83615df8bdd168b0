//! What a command says of a file that it cannot use, and what would help.

use super::issue::Issue;
use super::store::Store;
use crate::paths::Paths;
use std::path::Path;

/// What commands other than the gateway print for an invalid file.
#[must_use]
pub fn invalid_for_commands(path: &Path, issues: &[Issue]) -> String {
    let problems: Vec<String> = issues.iter().map(|issue| format!("  - {issue}")).collect();
    format!(
        "Config invalid\nFile: {}\nProblem:\n{}\n\n{}",
        path.display(),
        problems.join("\n"),
        remedy(issues)
    )
}

/// Keys that nobody knows can be taken out by `doctor`; everything else only its owner knows how to put right.
fn remedy(issues: &[Issue]) -> &'static str {
    let unknown = issues.iter().filter(|issue| issue.unknown_key.is_some()).count();
    match unknown {
        0 => "Correct the file at the places above, then check it: openclaw config validate",
        all if all == issues.len() => "Run: openclaw doctor --fix",
        _ => {
            "Run: openclaw doctor --fix\nIt takes the unknown keys out. Correct the rest in the file, then check it: openclaw config validate"
        }
    }
}

/// How to start without the file, when there is something to start with. `command`: as it was typed.
#[must_use]
pub fn last_good_line(paths: &Paths, command: &str) -> Option<String> {
    let meta = Store::new(paths.config_store_dir()).meta()?;
    Some(format!("To start with the last good config ({}) meanwhile: {command} --use-last-good", meta.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_doctor_can_mend_is_left_to_it() {
        let unknown =
            Issue { unknown_key: Some("prot".to_owned()), ..Issue::new("gateway", "Unrecognized key") };
        let syntax = Issue::new("", "JSON5 parse failed");
        assert_eq!(remedy(std::slice::from_ref(&unknown)), "Run: openclaw doctor --fix");
        assert!(!remedy(std::slice::from_ref(&syntax)).contains("doctor"));
        let both = remedy(&[unknown, syntax]);
        assert!(both.contains("doctor --fix") && both.contains("Correct the rest"), "{both}");
    }
}
