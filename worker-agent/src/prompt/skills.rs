//! Skills: folders with a `SKILL.md` whose front matter says what they are for. `scan` reads the roots, `prompt` writes
//! the list for the model; front matter and gating are pure.

use std::collections::BTreeMap;
use std::env::consts::OS;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

mod front_matter;

pub use front_matter::parse;

/// Where a skill came from; a later source wins over an earlier one with the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Extra,
    Managed,
    Personal,
    Project,
    Workspace,
}

impl Source {
    /// The word that clients know.
    pub fn label(self) -> &'static str {
        match self {
            Self::Extra => "openclaw-extra",
            Self::Managed => "openclaw-managed",
            Self::Personal => "agents-skills-personal",
            Self::Project => "agents-skills-project",
            Self::Workspace => "openclaw-workspace",
        }
    }
}

/// `skills` of the configuration, as meant. The strict reading is the check's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SkillSettings {
    pub entries: BTreeMap<String, EntrySettings>,
    pub load: LoadSettings,
    pub limits: Limits,
}

/// `skills.entries.<key>`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EntrySettings {
    pub enabled: Option<bool>,
    pub api_key: Option<Value>,
    pub env: BTreeMap<String, String>,
}

/// `skills.load`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadSettings {
    pub extra_dirs: Vec<String>,
}

/// `skills.limits`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    pub max_candidates_per_root: usize,
    pub max_skills_loaded_per_source: usize,
    pub max_skills_in_prompt: usize,
    pub max_skills_prompt_chars: usize,
    pub max_skill_file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_candidates_per_root: 300,
            max_skills_loaded_per_source: 200,
            max_skills_in_prompt: 150,
            max_skills_prompt_chars: 30_000,
            max_skill_file_bytes: 256_000,
        }
    }
}

/// One skill as its file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Skill {
    pub name: String,
    pub description: String,
    pub homepage: Option<String>,
    pub user_invocable: bool,
    /// Left out of the prompt.
    pub hidden: bool,
    /// `metadata.openclaw` of the front matter.
    pub meta: Map<String, Value>,
    pub source: Option<Source>,
    pub file: PathBuf,
}

/// What gating looks at outside of the file.
pub struct Surroundings<'a> {
    /// Directories of PATH.
    pub path: Vec<PathBuf>,
    pub env: &'a BTreeMap<String, String>,
    pub config: &'a Value,
    pub settings: &'a SkillSettings,
}

/// What a skill needs, or lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub bins: Vec<String>,
    pub any_bins: Vec<String>,
    pub env: Vec<String>,
    pub config: Vec<String>,
    pub os: Vec<String>,
}

impl Needs {
    pub fn is_empty(&self) -> bool {
        [&self.bins, &self.any_bins, &self.env, &self.config, &self.os].iter().all(|list| list.is_empty())
    }

    fn to_value(&self) -> Value {
        json!({"bins": self.bins, "anyBins": self.any_bins, "env": self.env, "config": self.config, "os": self.os})
    }
}

impl Skill {
    pub fn key(&self) -> &str {
        self.meta.get("skillKey").and_then(Value::as_str).unwrap_or(&self.name)
    }

    pub fn always(&self) -> bool {
        self.meta.get("always").and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn needs(&self) -> Needs {
        let list = |value: Option<&Value>| -> Vec<String> {
            value
                .and_then(Value::as_array)
                .map(|items| items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
                .unwrap_or_default()
        };
        let requires = self.meta.get("requires");
        let field = |name: &str| list(requires.and_then(|requires| requires.get(name)));
        Needs {
            bins: field("bins"),
            any_bins: field("anyBins"),
            env: field("env"),
            config: field("config"),
            os: list(self.meta.get("os")),
        }
    }

    /// What of its needs is not there. `always` needs only the right system.
    pub fn missing(&self, around: &Surroundings<'_>) -> Needs {
        let needs = self.needs();
        let here = match OS {
            "macos" => "darwin",
            "windows" => "win32",
            other => other,
        };
        let os = if needs.os.is_empty() || needs.os.iter().any(|os| os == here) { vec![] } else { needs.os };
        if self.always() {
            return Needs { os, ..Needs::default() };
        }
        let entry = around.settings.entries.get(self.key());
        let has_bin = |bin: &String| around.path.iter().any(|dir| dir.join(bin).is_file());
        let has_env = |name: &String| {
            let primary = self.meta.get("primaryEnv").and_then(Value::as_str) == Some(name.as_str());
            around.env.get(name).is_some_and(|value| !value.is_empty())
                || entry
                    .is_some_and(|entry| entry.env.contains_key(name) || (primary && entry.api_key.is_some()))
        };
        let has_config = |path: &String| {
            let pointer = format!("/{}", path.replace('.', "/"));
            around.config.pointer(&pointer).is_some_and(truthy)
        };
        let any_missing = !needs.any_bins.is_empty() && !needs.any_bins.iter().any(&has_bin);
        Needs {
            bins: needs.bins.into_iter().filter(|bin| !has_bin(bin)).collect(),
            any_bins: if any_missing { needs.any_bins } else { vec![] },
            env: needs.env.into_iter().filter(|name| !has_env(name)).collect(),
            config: needs.config.into_iter().filter(|path| !has_config(path)).collect(),
            os,
        }
    }

    pub fn disabled(&self, settings: &SkillSettings) -> bool {
        settings.entries.get(self.key()).is_some_and(|entry| entry.enabled == Some(false))
    }

    /// A row of `skills.status` (wire protocol 3 and 4).
    pub fn status(&self, around: &Surroundings<'_>) -> Value {
        let disabled = self.disabled(around.settings);
        let missing = self.missing(around);
        let mut row = json!({
            "name": self.name,
            "description": self.description,
            "source": self.source.map_or("openclaw-workspace", Source::label),
            "bundled": false,
            "filePath": self.file,
            "baseDir": self.file.parent(),
            "skillKey": self.key(),
            "always": self.always(),
            "disabled": disabled,
            "blockedByAllowlist": false,
            "eligible": !disabled && missing.is_empty(),
            "requirements": self.needs().to_value(),
            "missing": missing.to_value(),
            "configChecks": [],
            "install": [],
        });
        if let Some(map) = row.as_object_mut() {
            for field in ["emoji", "primaryEnv"] {
                if let Some(value) = self.meta.get(field) {
                    map.insert(field.into(), value.clone());
                }
            }
            if let Some(homepage) = &self.homepage {
                map.insert("homepage".into(), homepage.clone().into());
            }
        }
        row
    }
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

/// The roots of one agent, weakest first.
pub fn roots(
    settings: &SkillSettings,
    state_dir: &Path,
    home: &Path,
    workspace: &Path,
) -> Vec<(Source, PathBuf)> {
    let mut roots: Vec<(Source, PathBuf)> = settings
        .load
        .extra_dirs
        .iter()
        .map(|dir| match dir.strip_prefix("~/") {
            Some(rest) => (Source::Extra, home.join(rest)),
            None => (Source::Extra, workspace.join(dir)),
        })
        .collect();
    roots.extend([
        (Source::Managed, state_dir.join("skills")),
        (Source::Personal, home.join(".agents/skills")),
        (Source::Project, workspace.join(".agents/skills")),
        (Source::Workspace, workspace.join("skills")),
    ]);
    roots
}

/// All skills of the roots, the strongest of each name, sorted by name. Blocks.
pub fn scan(roots: &[(Source, PathBuf)], limits: Limits) -> Vec<Skill> {
    let mut by_name: BTreeMap<String, Skill> = BTreeMap::new();
    for (source, root) in roots {
        for file in candidates(root, limits).into_iter().take(limits.max_skills_loaded_per_source) {
            let Ok(meta) = fs::metadata(&file) else { continue };
            if !meta.is_file() || meta.len() > limits.max_skill_file_bytes {
                continue;
            }
            let Ok(text) = fs::read_to_string(&file) else { continue };
            if let Some(mut skill) = parse(&text, &file) {
                skill.source = Some(*source);
                by_name.insert(skill.name.clone(), skill);
            }
        }
    }
    by_name.into_values().collect()
}

/// `SKILL.md` files of a root: of the root itself, of its `skills` folder, or of its sub-folders.
fn candidates(root: &Path, limits: Limits) -> Vec<PathBuf> {
    let own = root.join("SKILL.md");
    if own.is_file() {
        let nested = sub_skills(&root.join("skills"), limits);
        return if nested.is_empty() { vec![own] } else { nested };
    }
    sub_skills(root, limits)
}

fn sub_skills(dir: &Path, limits: Limits) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            !name.starts_with('.') && name != "node_modules"
        })
        .take(limits.max_candidates_per_root)
        .map(|entry| entry.path().join("SKILL.md"))
        .filter(|file| file.is_file())
        .collect();
    files.sort();
    files
}

/// The list for the model, and the size of each entry in it. Empty without skills.
pub fn prompt(skills: &[&Skill], home: &Path, limits: Limits) -> (String, Vec<(String, usize)>) {
    let mut text = String::new();
    let mut sizes = Vec::new();
    let shown: Vec<&&Skill> = skills.iter().filter(|skill| !skill.hidden).collect();
    for skill in shown.iter().take(limits.max_skills_in_prompt) {
        let location = match skill.file.strip_prefix(home) {
            Ok(rest) => format!("~/{}", rest.display()),
            Err(_) => skill.file.display().to_string(),
        };
        let block = format!(
            "  <skill>\n    <name>{}</name>\n    <description>{}</description>\n    <location>{}</location>\n  </skill>\n",
            escape(&skill.name),
            escape(&skill.description),
            escape(&location)
        );
        if text.chars().count() + block.chars().count() > limits.max_skills_prompt_chars {
            break;
        }
        sizes.push((skill.name.clone(), block.chars().count()));
        text.push_str(&block);
    }
    if shown.is_empty() {
        return (String::new(), sizes);
    }
    let warning = if sizes.len() < shown.len() {
        format!(
            "Only {} of {} skills are listed; the rest did not fit the limits.\n",
            sizes.len(),
            shown.len()
        )
    } else {
        String::new()
    };
    (format!("{warning}<available_skills>\n{text}</available_skills>"), sizes)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
