//! What this program says of its sections without a gateway: `--schema` and `--check-config`. No network.

use std::io::Read;
use std::process::ExitCode;

use proto::runtime::worker_start::EXIT_CONFIG;
use serde_json::{Map, Value, json};

use crate::channel;

/// The gateway's own limit on a configuration file, with room for what `${NAME}` adds.
const CONFIG_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Prints `{"channels":{"<name>":<schema>}}`, of one channel or of all.
pub fn schema(only: Option<&str>) -> ExitCode {
    let kinds = channel::all().into_iter().filter(|kind| only.is_none_or(|name| name == kind.name));
    let schemas: Map<String, Value> = kinds.map(|kind| (kind.name.to_owned(), (kind.schema)())).collect();
    if schemas.is_empty() {
        eprintln!("no channel `{}` in this build", only.unwrap_or_default());
        return ExitCode::from(EXIT_CONFIG);
    }
    println!("{}", json!({ "channels": schemas }));
    ExitCode::SUCCESS
}

/// Reads a resolved configuration from standard input and prints `{"issues":[{"path","message"}]}`; exit 78 when
/// there is one. Keys that nobody here knows are not its business: the gateway has the list of all.
pub fn config(only: Option<&str>) -> ExitCode {
    // The configuration may hold secrets: nobody may look.
    if proto::runtime::sys::not_dumpable().is_err() {
        return ExitCode::FAILURE;
    }
    let mut text = String::new();
    if let Err(error) = std::io::stdin().take(CONFIG_BYTES_MAX).read_to_string(&mut text) {
        eprintln!("cannot read the configuration from standard input: {error}");
        return ExitCode::from(EXIT_CONFIG);
    }
    let issues = match serde_json::from_str::<Value>(&text) {
        Ok(config) => issues(&config, only),
        Err(error) => vec![json!({"path": "", "message": format!("not JSON: {error}")})],
    };
    let code = if issues.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG) };
    println!("{}", json!({ "issues": issues }));
    code
}

fn issues(config: &Value, only: Option<&str>) -> Vec<Value> {
    let mut issues = Vec::new();
    for kind in channel::all().into_iter().filter(|kind| only.is_none_or(|name| name == kind.name)) {
        let Some(section) = config.get("channels").and_then(|all| all.get(kind.name)) else { continue };
        for (path, message) in (kind.check)(section) {
            let dot = if path.is_empty() { "" } else { "." };
            issues.push(json!({"path": format!("channels.{}{dot}{path}", kind.name), "message": message}));
        }
    }
    issues
}

#[cfg(test)]
mod tests {
    use super::issues;
    use serde_json::json;

    #[test]
    fn issues_name_the_whole_path() {
        let config = json!({"channels": {"telegram": {"textChunkLimit": "many"}, "other": {"x": 1}}});
        let found = issues(&config, None);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["path"], "channels.telegram.textChunkLimit");
        assert!(issues(&json!({}), Some("telegram")).is_empty());
    }
}
