//! Asking the workers' executables about the sections that they own: `--check-config` before a change is written and
//! after a start, `--schema` for forms. A short child process each, without network and without secrets.
//!
//! Not before a start: keys and types are ours to check, and a worker that cannot use its section says so itself.

use super::issue::Issue;
use super::read::sha256_hex;
use crate::worker::{Binary, run_to_end};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A check reads a file's worth of JSON and answers; longer means it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The executables that own sections, beside our own.
const NAMES: [&str; 2] = ["openclaw-agent", "openclaw-channel"];

/// One executable: a flag and standard input in, JSON out.
type Ask = Box<dyn Fn(&str, &str) -> Result<Value, String> + Send + Sync>;

struct Program {
    name: String,
    /// Changes with the file, so that a verdict of another release does not count.
    identity: String,
    ask: Ask,
}

/// The executables that own sections.
pub struct WorkerPrograms {
    programs: Vec<Program>,
    schemas: OnceLock<Vec<Value>>,
}

impl fmt::Debug for WorkerPrograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.programs.iter().map(|program| &program.name)).finish()
    }
}

/// What all programs said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub issues: Vec<Issue>,
    /// Every program answered.
    pub complete: bool,
}

impl WorkerPrograms {
    #[must_use]
    pub fn new(binaries: Vec<Arc<Binary>>) -> Self {
        Self { programs: binaries.into_iter().map(program).collect(), schemas: OnceLock::new() }
    }

    /// Those that lie beside the running executable.
    #[must_use]
    pub fn find() -> Self {
        let found = NAMES.iter().filter_map(|name| {
            Binary::find(name)
                .inspect_err(|error| tracing::warn!("{error}; its sections are not checked"))
                .ok()
        });
        Self::new(found.map(Arc::new).collect())
    }

    /// What the workers refuse in a resolved configuration whose secrets are hidden. A program that cannot be asked
    /// refuses nothing: its worker will say more when it starts.
    #[must_use]
    pub fn check(&self, config: &Value) -> Vec<Issue> {
        self.ask_all(config).issues
    }

    /// The same, and whether all of them answered. They are asked side by side.
    #[must_use]
    pub fn ask_all(&self, config: &Value) -> Verdict {
        let input = config.to_string();
        let answers = std::thread::scope(|scope| {
            let asked: Vec<_> = self
                .programs
                .iter()
                .map(|program| (program, scope.spawn(|| (program.ask)("--check-config", &input))))
                .collect();
            let gone = || Err("the thread that asked it is gone".to_owned());
            let joined = asked
                .into_iter()
                .map(|(program, thread)| (program, thread.join().unwrap_or_else(|_| gone())));
            joined.collect::<Vec<_>>()
        });
        let mut verdict = Verdict { issues: Vec::new(), complete: true };
        for (program, answer) in answers {
            match answer {
                Ok(answer) => verdict.issues.extend(read_issues(&answer)),
                Err(why) => {
                    verdict.complete = false;
                    tracing::warn!("{} --check-config: {why}", program.name);
                }
            }
        }
        verdict
    }

    /// Names one configuration as these very executables see it.
    #[must_use]
    pub fn key(&self, config: &Value) -> String {
        let identities = self.programs.iter().map(|program| program.identity.as_str()).collect::<Vec<_>>();
        sha256_hex(format!("{}\n{config}", identities.join("\n")).as_bytes())
    }

    /// `{"properties": {section: schema}}` of each program, laid over the root.
    #[must_use]
    pub fn schemas(&self) -> Vec<(String, Value)> {
        let parts = self.schemas.get_or_init(|| self.programs.iter().filter_map(schema).collect());
        parts.iter().map(|part| (String::new(), part.clone())).collect()
    }
}

fn program(binary: Arc<Binary>) -> Program {
    let path = binary.path().to_path_buf();
    let identity = std::fs::metadata(&path).map_or_else(
        |_| path.display().to_string(),
        |meta| {
            format!("{} {} {} {}.{}", path.display(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
        },
    );
    Program {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        identity,
        ask: Box::new(move |flag, input| {
            let output = run_to_end(&binary, &[flag], &BTreeMap::new(), input.as_bytes(), ANSWER_TIMEOUT)
                .map_err(|error| error.to_string())?;
            serde_json::from_slice(&output.stdout).map_err(|error| {
                let said = String::from_utf8_lossy(&output.stderr);
                format!("the answer is no JSON: {error} {}", said.lines().next().unwrap_or_default())
            })
        }),
    }
}

fn schema(program: &Program) -> Option<Value> {
    let answer = (program.ask)("--schema", "").inspect_err(|why| {
        tracing::warn!("{} --schema: {why}", program.name);
    });
    let answer = answer.ok()?;
    // The channels' program names its sections without the wrapping of a schema.
    match answer.get("channels") {
        Some(channels) => Some(serde_json::json!({"properties": {"channels": {"properties": channels}}})),
        None => Some(answer),
    }
}

fn read_issues(answer: &Value) -> Vec<Issue> {
    let text = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    let items = answer.get("issues").and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .map(|item| {
            let issue =
                Issue::new(text(item, "path").unwrap_or_default(), text(item, "message").unwrap_or_default());
            Issue { hint: text(item, "hint"), ..issue }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn programs(asks: Vec<Ask>) -> WorkerPrograms {
        let named = |ask| Program { name: "p".into(), identity: "1".into(), ask };
        WorkerPrograms { programs: asks.into_iter().map(named).collect(), schemas: OnceLock::new() }
    }

    #[test]
    fn findings_of_all_programs_are_joined_and_silent_ones_skipped() {
        let echo = |_: &str, input: &str| {
            Ok(json!({"issues": [{"path": "tools", "message": format!("got {input}"), "hint": "h"}]}))
        };
        let asked = programs(vec![Box::new(echo), Box::new(|_, _| Err("gone".into()))]);
        let wanted = Issue { hint: Some("h".into()), ..Issue::new("tools", "got {\"a\":1}") };
        assert_eq!(asked.ask_all(&json!({"a": 1})), Verdict { issues: vec![wanted], complete: false });
        assert_ne!(asked.key(&json!({"a": 1})), asked.key(&json!({"a": 2})));
    }

    #[test]
    fn schemas_are_asked_once_and_wrapped() {
        let count = Arc::new(AtomicU32::new(0));
        let counted = count.clone();
        let asked = programs(vec![Box::new(move |flag, _| {
            assert_eq!(flag, "--schema");
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(json!({"channels": {"telegram": {"type": "object"}}}))
        })]);
        for _ in 0..2 {
            let part = asked.schemas().remove(0).1;
            assert_eq!(part["properties"]["channels"]["properties"]["telegram"], json!({"type": "object"}));
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
