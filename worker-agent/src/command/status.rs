//! `/status`: the card of this session. The tool `session_status` shows the same card.

use jiff::Timestamp;

use super::{Asked, Command, Outcome};
use crate::agent::{Active, Agent};
use crate::session::store::SessionEntry;
use crate::tool::BoxFuture;

pub struct Status;

impl Command for Status {
    fn name(&self) -> &'static str {
        "status"
    }

    fn help(&self) -> &'static str {
        "/status: model, tokens and state of this session"
    }

    fn run<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { Outcome::Reply(card(asked.agent, asked.active, asked.session_key).await) })
    }
}

/// The card; absent facts leave their line out.
pub async fn card(agent: &Agent, active: &Active, key: &str) -> String {
    let entry = agent.sessions.entry(key).await.ok().flatten().unwrap_or_default();
    let now_ms = crate::clock::now_ms();
    let setup = &active.setup;
    let chain = active.models.chain(entry.str("modelOverride"));
    let facts = chain.ok().and_then(|chain| active.models.facts(chain.first()?).ok());
    let mut lines = vec![format!("🦞 OpenClaw {}", setup.version), time_line(now_ms, setup.zone.clone())];
    if let Some(facts) = &facts {
        let key = facts.key_source.as_deref().map(|source| format!(" · 🔑 {source}")).unwrap_or_default();
        lines.push(format!("🧠 Model: {}{key}", facts.reference()));
        let last = entry.str("modelProvider").zip(entry.str("model")).map(|(p, m)| format!("{p}/{m}"));
        if let Some(last) = last.filter(|last| *last != facts.reference()) {
            lines.push(format!("↪️ Last answer came from: {last}"));
        }
    } else {
        lines.push("🧠 Model: none usable; set agents.defaults.model".into());
    }
    lines.extend(token_lines(&entry, facts.map(|facts| facts.context_window)));
    lines.push(format!(
        "🧵 Session: {key} • updated {}",
        ago(now_ms - entry.updated_at(), entry.updated_at())
    ));
    let level = |field: &str| entry.str(field).filter(|level| *level != "off");
    let mut runtime = format!(
        "⚙️ Runtime: direct · Think: {}",
        entry.str("thinkingLevel").or(setup.agent.thinking_default.as_deref()).unwrap_or("off")
    );
    if let Some(verbose) = level("verboseLevel") {
        runtime.push_str(&format!(" · verbose: {verbose}"));
    }
    if let Some(reasoning) = level("reasoningLevel") {
        runtime.push_str(&format!(" · Reasoning: {reasoning}"));
    }
    lines.push(runtime);
    let activation =
        entry.str("groupActivation").map(|mode| format!("👥 Activation: {mode} · ")).unwrap_or_default();
    lines.push(format!("{activation}🪢 Queue: {}", entry.str("queueMode").unwrap_or("collect")));
    lines.join("\n")
}

fn time_line(now_ms: i64, zone: jiff::tz::TimeZone) -> String {
    let now = Timestamp::from_millisecond(now_ms).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
    format!("🕒 {}", now.strftime("%A, %Y-%m-%d %H:%M (%Z)"))
}

fn token_lines(entry: &SessionEntry, window: Option<u64>) -> Vec<String> {
    let mut lines = Vec::new();
    let (input, output) = (entry.u64("inputTokens"), entry.u64("outputTokens"));
    if input + output > 0 {
        lines.push(format!("🧮 Tokens: {} in / {} out", short(input), short(output)));
    }
    let read = entry.u64("cacheRead");
    if read > 0 {
        let all = (input + read + entry.u64("cacheWrite")).max(1);
        lines.push(format!("🗄️ Cache: {}% hit", read * 100 / all));
    }
    let window = entry.0.get("contextTokens").and_then(serde_json::Value::as_u64).or(window);
    let used = entry.total_tokens();
    let fill = match (used, window.filter(|window| *window > 0)) {
        (Some(used), Some(window)) => format!("{}/{} ({}%)", short(used), short(window), used * 100 / window),
        (None, Some(window)) => format!("?/{}", short(window)),
        _ => "?".into(),
    };
    lines.push(format!("📚 Context: {fill} · 🧹 Compactions: {}", entry.u64("compactionCount")));
    lines
}

/// `950`, `14k`, `1.2m`.
pub fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..10_000 => format!("{}.{}k", count / 1_000, count % 1_000 / 100),
        10_000..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}.{}m", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

fn ago(age_ms: i64, at_ms: i64) -> String {
    if at_ms <= 0 {
        return "never".into();
    }
    match age_ms / 1_000 {
        ..60 => "just now".into(),
        secs @ 60..3_600 => format!("{}m ago", secs / 60),
        secs @ 3_600..86_400 => format!("{}h ago", secs / 3_600),
        secs => format!("{}d ago", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ages() {
        let shorts: Vec<String> = [5, 1_250, 14_250, 131_072, 1_250_000].map(short).into();
        assert_eq!(shorts, ["5", "1.2k", "14k", "131k", "1.2m"]);
        let ages: Vec<String> = [5_000, 180_000, 7_200_000, 200_000_000].map(|age| ago(age, 1)).into();
        assert_eq!(ages, ["just now", "3m ago", "2h ago", "2d ago"]);
        assert_eq!(ago(5, 0), "never");
    }
}
