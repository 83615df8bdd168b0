//! `/usage cost`: what this session has spent, as its transcript tells.

use super::Asked;
use super::status::short;
use crate::session::message::{Message, Usage};

/// Sums over the session, and over its last day.
pub async fn text(asked: Asked<'_>) -> String {
    let none = "⚙️ Nothing was spent in this session yet.".to_owned();
    let Ok(Some(entry)) = asked.agent.sessions.entry(asked.session_key).await else { return none };
    if entry.session_id().is_none() {
        return none;
    }
    let log = asked.agent.sessions.log(asked.session_key, &entry, &asked.active.setup.workspace_text());
    let since = crate::clock::now_ms() - 24 * 3600 * 1000;
    let sums = log
        .with(move |transcript| {
            let branch = transcript.branch();
            let answers = branch.iter().filter_map(|entry| match entry.body.message()? {
                Message::Assistant(answer) => Some((entry.at_ms(), answer.usage)),
                _ => None,
            });
            let (mut all, mut day) = (Sum::default(), Sum::default());
            for (at_ms, usage) in answers {
                all.add(&usage);
                if at_ms >= since {
                    day.add(&usage);
                }
            }
            Ok((all, day))
        })
        .await;
    match sums {
        Ok((all, _)) if all.calls == 0 => none,
        Ok((all, day)) => format!("💵 This session: {}\nIts last 24 hours: {}", all.text(), day.text()),
        Err(error) => format!("⚠️ The transcript cannot be read: {error}"),
    }
}

#[derive(Default)]
struct Sum {
    calls: u64,
    input: u64,
    output: u64,
    dollars: f64,
}

impl Sum {
    fn add(&mut self, usage: &Usage) {
        if usage.total_tokens > 0 {
            self.calls += 1;
        }
        self.input = self.input.saturating_add(usage.prompt_tokens());
        self.output = self.output.saturating_add(usage.output);
        self.dollars += usage.cost.total;
    }

    fn text(&self) -> String {
        let calls = if self.calls == 1 { "1 answer".to_owned() } else { format!("{} answers", self.calls) };
        let spent = format!("{calls}, {} in / {} out", short(self.input), short(self.output));
        if self.dollars > 0.0 { format!("{spent}, ${:.4}", self.dollars) } else { spent }
    }
}
