//! `/context [list|detail|json]`: what the prompt of this session is made of.

use super::{Asked, Command, Outcome};
use crate::prompt::report::{self, Report, SessionTokens};
use crate::session::store::SessionEntry;
use crate::tool::BoxFuture;
use crate::turn::prepare::{self, Occasion};

pub struct Context;

impl Command for Context {
    fn name(&self) -> &'static str {
        "context"
    }

    fn help(&self) -> &'static str {
        "/context [list|detail|json]: what fills the model's context"
    }

    fn run<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { Outcome::Reply(reply(asked).await) })
    }
}

const HELP: &str = "🧠 /context shows what the model's context is made of.\n\n/context list: files, skills and tools with \
    their sizes\n/context detail: the same with every entry\n/context json: for programs";

async fn reply(asked: Asked<'_>) -> String {
    let mode = asked.args.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let detail = match mode.as_str() {
        "" | "help" => return HELP.into(),
        "list" | "show" | "json" => false,
        "detail" | "deep" => true,
        other => return format!("Unknown mode: {other}. Use /context, or /context list, detail or json."),
    };
    let entry = asked.agent.sessions.entry(asked.session_key).await.ok().flatten().unwrap_or_default();
    let report = match stored(&entry) {
        Some(report) => report,
        None => match estimate(asked, &entry).await {
            Ok(report) => report,
            Err(error) => return format!("No context report: {error}"),
        },
    };
    let number = |field: &str| entry.0.get(field).and_then(serde_json::Value::as_u64);
    let tokens = SessionTokens {
        total: entry.total_tokens(),
        input: number("inputTokens"),
        output: number("outputTokens"),
        context: number("contextTokens"),
    };
    if mode == "json" {
        return serde_json::to_string_pretty(&report::json(&report, tokens)).unwrap_or_default();
    }
    report::text(&report, tokens, detail)
}

/// The report of the last run of this very session.
fn stored(entry: &SessionEntry) -> Option<Report> {
    let report: Report = serde_json::from_value(entry.0.get("systemPromptReport")?.clone()).ok()?;
    (entry.session_id() == Some(report.session_id.as_str())).then_some(report)
}

async fn estimate(asked: Asked<'_>, entry: &SessionEntry) -> Result<Report, String> {
    let models = &asked.active.models;
    let chain = models.chain(entry.str("modelOverride")).map_err(|error| error.to_string())?;
    let first = chain.first().ok_or("no model is configured")?;
    let facts = models.facts(first).map_err(|error| error.to_string())?;
    let occasion = Occasion {
        session_key: asked.session_key.to_owned(),
        entry: entry.clone(),
        facts,
        default_model: None,
        spec: None,
    };
    Ok(prepare::prepare(asked.agent, asked.active, occasion).await.report)
}
