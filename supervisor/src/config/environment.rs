//! The environment as a map in memory: what the process was given, plus `.env` files and the `env` section.
//! Nothing is written back to the process; children get theirs from here.

use crate::paths::Paths;
use crate::service::environment_file;
use crate::service::installed::environment_files;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Names that a configuration file may not set: they change how programs load code.
const DANGEROUS: [&str; 20] = [
    "NODE_OPTIONS",
    "NODE_PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "PERL5LIB",
    "PERL5OPT",
    "RUBYLIB",
    "RUBYOPT",
    "BASH_ENV",
    "ENV",
    "GIT_EXTERNAL_DIFF",
    "SHELL",
    "SHELLOPTS",
    "PS4",
    "GCONV_PATH",
    "IFS",
    "SSLKEYLOGFILE",
    "HOME",
    "ZDOTDIR",
    "PATH",
];
const DANGEROUS_PREFIXES: [&str; 3] = ["DYLD_", "LD_", "BASH_FUNC_"];

/// Names and values; values are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl Environment {
    /// What this process was started with; names and values that are not UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The trimmed value; empty counts as absent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// As if these had never been set.
    pub fn forget(&mut self, names: &[&str]) {
        self.0.retain(|name, _| !names.contains(&name.as_str()));
    }

    /// An existing value always wins, an empty one does not.
    pub fn add_missing(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.set(name, value);
        }
    }

    /// The lines of a `.env` file.
    pub fn add_dotenv(&mut self, text: &str) {
        for (name, value) in dotenv(text) {
            self.add_missing(&name, &value);
        }
    }

    /// The `env` section: `env.vars.*` and plain string keys of `env`. Returns the names that were refused.
    pub fn add_section(&mut self, config: &Value) -> Vec<String> {
        let mut refused = Vec::new();
        let section = config.get("env");
        let vars = section.and_then(|env| env.get("vars")).and_then(Value::as_object);
        let plain = section.and_then(Value::as_object);
        let plain = plain.into_iter().flatten().filter(|(key, _)| *key != "vars" && *key != "shellEnv");
        for (name, value) in vars.into_iter().flatten().chain(plain) {
            let Some(value) = value.as_str().filter(|value| !value.trim().is_empty()) else { continue };
            if is_dangerous(name) {
                refused.push(name.clone());
            } else {
                self.add_missing(name, value);
            }
        }
        refused
    }
}

/// Whether a configuration file may not set this variable.
#[must_use]
pub fn is_dangerous(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    DANGEROUS.contains(&upper.as_str())
        || DANGEROUS_PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
        || name.contains(['=', '\0'])
}

/// `NAME=value`, `export NAME="quoted\n"`, `NAME='raw'`, `# comment`. Lines that fit no form are skipped.
fn dotenv(text: &str) -> Vec<(String, String)> {
    text.lines().filter_map(dotenv_line).collect()
}

fn dotenv_line(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-';
    if name.is_empty() || name.starts_with('#') || !name.chars().all(word) {
        return None;
    }
    let value = value.trim();
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.get(..rest.rfind(quote)?));
    let value = if let Some(body) = quoted('"') {
        body.replace("\\n", "\n").replace("\\r", "\r").replace("\\\"", "\"")
    } else if let Some(body) = quoted('\'').or_else(|| quoted('`')) {
        body.to_owned()
    } else {
        value.split(" #").next().unwrap_or("").trim_end().to_owned()
    };
    Some((name.to_owned(), value))
}

/// The environment of a process that reads the configuration, the same for the gateway and for every command. What the
/// process was given comes first, then what a service is given beside it (`service.env`), then `.env` here (only for a
/// person in the foreground: a service's working directory may be anybody's), then `.env` in the state directory.
#[must_use]
pub fn load_env(process: Environment, paths: &Paths, foreground_dir: Option<&Path>) -> Environment {
    let mut env = process;
    for file in environment_files(paths) {
        for (name, value) in small_file(&file).as_deref().map(environment_file::parse).unwrap_or_default() {
            env.add_missing(&name, &value);
        }
    }
    for dir in foreground_dir.into_iter().chain(std::iter::once(paths.state_dir.as_path())) {
        if let Some(text) = small_file(&dir.join(".env")) {
            env.add_dotenv(&text);
        }
    }
    env
}

/// A file with variables is a page of text.
fn small_file(file: &Path) -> Option<String> {
    const BYTES_MAX: u64 = 1_048_576;
    let small = std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= BYTES_MAX);
    small.then(|| std::fs::read_to_string(file).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dotenv_forms() {
        let text =
            "# c\nA=1\nexport B = \"x\\ny\"\nC='r #aw' # tail\nD=plain # tail\nE=\nbad line\n9$=x\n#X=1\n";
        let wanted = [("A", "1"), ("B", "x\ny"), ("C", "r #aw"), ("D", "plain"), ("E", "")];
        let wanted: Vec<_> = wanted.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(dotenv(text), wanted);
    }

    #[test]
    fn earlier_sources_win_and_loaders_cannot_be_set() {
        let mut env: Environment = [("A", "process"), ("EMPTY", " ")].into_iter().collect();
        env.add_dotenv("A=file\nB=file\nEMPTY=file");
        let section = json!({"env": {"vars": {"B": "vars", "C": "vars", "LD_PRELOAD": "x"},
            "D": "plain", "shellEnv": {"enabled": true}, "node_options": "y"}});
        assert_eq!(env.add_section(&section), ["LD_PRELOAD", "node_options"]);
        let shown: Vec<_> = ["A", "B", "C", "D", "EMPTY", "LD_PRELOAD"].map(|name| env.get(name)).into();
        assert_eq!(shown, [Some("process"), Some("file"), Some("vars"), Some("plain"), Some("file"), None]);
        assert!(!format!("{env:?}").contains("process"));
    }
}
