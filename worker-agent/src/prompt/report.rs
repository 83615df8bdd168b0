//! What the prompt of a session is made of, in characters: stored with the session, shown by `/context`. PURE.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Prompt;
use super::bootstrap::{Caps, Injected};

/// Entries of each list in `/context detail`.
const DETAIL_ROWS_MAX: usize = 30;

/// `systemPromptReport` of a session entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// `run` or `estimate`.
    pub source: String,
    /// Unix milliseconds.
    pub generated_at: i64,
    pub session_id: String,
    pub session_key: String,
    pub provider: String,
    pub model: String,
    pub workspace_dir: String,
    pub bootstrap_max_chars: usize,
    pub bootstrap_total_max_chars: usize,
    pub sandbox: Sandbox,
    pub system_prompt: Sizes,
    pub injected_workspace_files: Vec<FileSize>,
    pub skills: SkillSizes,
    pub tools: ToolSizes,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    pub mode: String,
    pub sandboxed: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sizes {
    pub chars: usize,
    pub project_context_chars: usize,
    pub non_project_context_chars: usize,
    /// What a caller or channel added to the prompt.
    pub extra_context_chars: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileSize {
    pub name: String,
    pub path: String,
    pub missing: bool,
    pub raw_chars: usize,
    pub injected_chars: usize,
    pub truncated: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SkillSizes {
    pub prompt_chars: usize,
    pub entries: Vec<SkillSize>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SkillSize {
    pub name: String,
    pub block_chars: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToolSizes {
    pub list_chars: usize,
    pub schema_chars: usize,
    pub entries: Vec<ToolSize>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToolSize {
    pub name: String,
    pub summary_chars: usize,
    pub schema_chars: usize,
    pub properties_count: usize,
}

/// Token counters of a session, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionTokens {
    pub total: Option<u64>,
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub context: Option<u64>,
}

impl Report {
    /// Fills the sizes from a prompt and its parts.
    pub fn measure(mut self, prompt: &Prompt, files: &[Injected], caps: Caps, extra_chars: usize) -> Self {
        let chars = prompt.text.chars().count();
        self.bootstrap_max_chars = caps.file;
        self.bootstrap_total_max_chars = caps.total;
        self.sandbox = Sandbox { mode: "off".into(), sandboxed: false };
        self.system_prompt = Sizes {
            chars,
            project_context_chars: prompt.project_context_chars,
            non_project_context_chars: chars - prompt.project_context_chars,
            extra_context_chars: extra_chars,
        };
        self.injected_workspace_files = files
            .iter()
            .map(|file| FileSize {
                name: file.name.clone(),
                path: file.path.clone(),
                missing: file.missing,
                raw_chars: file.raw_chars,
                injected_chars: if file.missing { 0 } else { file.content.chars().count() },
                truncated: file.truncated,
            })
            .collect();
        self.tools.list_chars = prompt.tool_list_chars;
        self
    }
}

/// `12,004 chars (~3,001 tok)`.
fn size(chars: usize) -> String {
    format!("{} chars (~{} tok)", thousands(chars as u64), thousands(chars.div_ceil(4) as u64))
}

/// Integer with a comma between groups of three digits.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `/context list` and `/context detail`.
pub fn text(report: &Report, session: SessionTokens, detail: bool) -> String {
    let mut lines = head(report, detail);
    lines.push(String::new());
    lines.push("Injected workspace files:".into());
    lines.extend(report.injected_workspace_files.iter().map(file_line));
    lines.push(String::new());
    let skills = &report.skills;
    lines.push(format!(
        "Skills list (system prompt text): {} ({} skills)",
        size(skills.prompt_chars),
        skills.entries.len()
    ));
    let names: Vec<&str> = skills.entries.iter().map(|entry| entry.name.as_str()).collect();
    lines.push(format!("Skills: {}", first_of(&names, 20)));
    if detail {
        let rows = skills.entries.iter().map(|entry| (entry.name.clone(), entry.block_chars)).collect();
        lines.extend(top("Top skills (prompt entry size):", rows, " skills", size));
    }
    let tools = &report.tools;
    lines.push(format!("Tool list (system prompt text): {}", size(tools.list_chars)));
    lines.push(format!(
        "Tool schemas (JSON): {} (counts toward context; not shown as text)",
        size(tools.schema_chars)
    ));
    let names: Vec<&str> = tools.entries.iter().map(|entry| entry.name.as_str()).collect();
    lines.push(format!("Tools: {}", first_of(&names, 30)));
    if detail {
        let rows = |field: fn(&ToolSize) -> usize| {
            tools.entries.iter().map(|entry| (entry.name.clone(), field(entry))).collect::<Vec<_>>()
        };
        lines.extend(top("Top tools (schema size):", rows(|tool| tool.schema_chars), " tools", size));
        lines.extend(top("Top tools (summary text size):", rows(|tool| tool.summary_chars), " tools", size));
        lines.extend(top("Tools (param count):", rows(|tool| tool.properties_count), " tools", |count| {
            format!("{count} params")
        }));
    }
    lines.push(String::new());
    lines.push(match (session.total, session.context) {
        (Some(total), Some(window)) => {
            format!("Session tokens (cached): {} total / ctx={window}", thousands(total))
        }
        (Some(total), None) => format!("Session tokens (cached): {} total / ctx=?", thousands(total)),
        _ => "Session tokens (cached): unknown".into(),
    });
    lines.push(String::new());
    lines.push(
        "Inline shortcuts such as /status or /help inside a message are answered and cut from it.".into(),
    );
    lines.join("\n")
}

fn head(report: &Report, detail: bool) -> Vec<String> {
    let prompt = &report.system_prompt;
    let title = if detail { "🧠 Context breakdown (detailed)" } else { "🧠 Context breakdown" };
    let mut lines = vec![
        title.to_owned(),
        format!("Workspace: {}", report.workspace_dir),
        format!("Bootstrap max/file: {} chars", thousands(report.bootstrap_max_chars as u64)),
        format!("Bootstrap max/total: {} chars", thousands(report.bootstrap_total_max_chars as u64)),
        format!("Sandbox: mode={} sandboxed={}", report.sandbox.mode, report.sandbox.sandboxed),
        format!(
            "System prompt ({}): {} (Project Context {})",
            report.source,
            size(prompt.chars),
            size(prompt.project_context_chars)
        ),
    ];
    if prompt.extra_context_chars > 0 {
        lines.push(format!("Injected context: {}", size(prompt.extra_context_chars)));
    }
    let cut: Vec<&FileSize> = report.injected_workspace_files.iter().filter(|file| file.truncated).collect();
    if !cut.is_empty() {
        let sum = |field: fn(&FileSize) -> usize| {
            thousands(cut.iter().map(|file| field(file)).sum::<usize>() as u64)
        };
        lines.push(String::new());
        lines.push(format!(
            "⚠ {} file(s) truncated ({} → {} chars)",
            cut.len(),
            sum(|file| file.raw_chars),
            sum(|file| file.injected_chars)
        ));
        let per_file = cut.iter().filter(|file| file.raw_chars > report.bootstrap_max_chars).count();
        lines.push(format!(
            "Causes: {per_file} over the per-file cap, {} over the total cap",
            cut.len() - per_file
        ));
        lines.push(
            "Tip: raise agents.defaults.bootstrapMaxChars or bootstrapTotalMaxChars, or shorten the files."
                .into(),
        );
    }
    lines
}

fn file_line(file: &FileSize) -> String {
    if file.missing {
        return format!("- {}: MISSING | raw 0 | injected 0", file.name);
    }
    let state = if file.truncated { "TRUNCATED" } else { "OK" };
    format!(
        "- {}: {state} | raw {} | injected {}",
        file.name,
        size(file.raw_chars),
        size(file.injected_chars)
    )
}

fn first_of(names: &[&str], max: usize) -> String {
    if names.is_empty() {
        return "(none)".into();
    }
    let shown = names.iter().take(max).copied().collect::<Vec<_>>().join(", ");
    if names.len() > max { format!("{shown}, … (+{} more)", names.len() - max) } else { shown }
}

fn top(title: &str, mut rows: Vec<(String, usize)>, noun: &str, show: fn(usize) -> String) -> Vec<String> {
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let more = rows.len().saturating_sub(DETAIL_ROWS_MAX);
    let mut lines = vec![title.to_owned()];
    lines.extend(
        rows.into_iter().take(DETAIL_ROWS_MAX).map(|(name, value)| format!("- {name}: {}", show(value))),
    );
    if more > 0 {
        lines.push(format!("… (+{more} more{noun})"));
    }
    lines
}

/// `/context json`.
pub fn json(report: &Report, session: SessionTokens) -> Value {
    json!({
        "report": report,
        "session": {
            "totalTokens": session.total,
            "inputTokens": session.input,
            "outputTokens": session.output,
            "contextTokens": session.context,
        },
    })
}
