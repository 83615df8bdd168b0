//! The built-in offline model. It is honest: it says that it is not a language model and how to set a real one.
//! It echoes, and calls tools when asked in plain words, so that the whole path from a message to a tool and
//! back can be tried without a key and without a network. Deterministic: the same request gives the same reply.

use std::collections::VecDeque;

use futures_util::stream;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::failure::{ProviderError, Reason};
use super::types::{
    Block, Message, ModelRequest, ProviderEvent, StopReason, ToolResultMessage, Usage, joined_text,
};
use super::{Call, EventStream, Provider};

/// Pause between two words: fast enough not to bore, slow enough that streaming can be seen.
const WORD_PAUSE_MS: u64 = 12;
/// Longest tool result that is repeated in the reply.
const RESULT_CHARS_MAX: usize = 6000;
/// Longest echo.
const ECHO_CHARS_MAX: usize = 2000;

pub struct Demo;

impl Provider for Demo {
    fn kind(&self) -> &'static str {
        "demo"
    }

    fn stream(&self, call: Call, cancel: CancellationToken) -> EventStream {
        let events: VecDeque<ProviderEvent> = script(&call.request).into();
        let model = call.model;
        Box::pin(stream::unfold(Some(events), move |left| {
            let (model, cancel) = (model.clone(), cancel.clone());
            async move {
                let mut events = left?;
                let event = events.pop_front()?;
                let pause = match event {
                    ProviderEvent::TextDelta { .. } => std::time::Duration::from_millis(WORD_PAUSE_MS),
                    _ => std::time::Duration::ZERO,
                };
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => {
                        let error = ProviderError::new(Reason::Cancelled, &model.provider, &model.id, "");
                        Some((Err(error), None))
                    }
                    () = tokio::time::sleep(pause) => Some((Ok(event), Some(events))),
                }
            }
        }))
    }
}

/// The whole reply as events. Pure.
pub fn script(request: &ModelRequest) -> Vec<ProviderEvent> {
    let mut events = Vec::new();
    let (text, calls) = match answer(request) {
        Answer::Say(text) => (text, Vec::new()),
        Answer::Call { say, calls } => (say, calls),
    };
    events.extend(words(&text).into_iter().map(|text| ProviderEvent::TextDelta { text }));
    let mut output = tokens(&text);
    let stop_reason = if calls.is_empty() { StopReason::Stop } else { StopReason::ToolUse };
    for (index, (name, arguments)) in calls.into_iter().enumerate() {
        let id = format!("demo_{}_{index}", request.messages.len());
        let json = arguments.to_string();
        output = output.saturating_add(tokens(&json));
        events.push(ProviderEvent::ToolCallStart { index, id: id.clone(), name: name.clone() });
        events.push(ProviderEvent::ToolCallDelta { index, json });
        events.push(ProviderEvent::ToolCallEnd { index, id, name, arguments, thought_signature: None });
    }
    let input = prompt_tokens(request);
    let total_tokens = input.saturating_add(output);
    events.push(ProviderEvent::Usage(Usage { input, output, total_tokens, ..Usage::default() }));
    events.push(ProviderEvent::Done { stop_reason });
    events
}

enum Answer {
    Say(String),
    Call { say: String, calls: Vec<(String, Value)> },
}

fn answer(request: &ModelRequest) -> Answer {
    let asked_at = request.messages.iter().rposition(|m| matches!(m, Message::User(_)));
    let asked = asked_at.and_then(|at| request.messages.get(at)).map(user_text).unwrap_or_default();
    let after = asked_at.and_then(|at| request.messages.get(at.saturating_add(1)..)).unwrap_or_default();
    let results: Vec<&ToolResultMessage> = after
        .iter()
        .filter_map(|m| if let Message::ToolResult(result) = m { Some(result) } else { None })
        .collect();
    let wishes = wishes(&asked);
    // One wish after the other: each tool result is seen before the next call is made.
    if let Some(wish) = wishes.get(results.len()) {
        return match wish.call(request) {
            Ok((name, arguments)) => {
                let nth = if wishes.len() > 1 {
                    format!("Step {}: ", results.len().saturating_add(1))
                } else {
                    String::new()
                };
                Answer::Call { say: format!("{nth}{}\n\n", wish.announce()), calls: vec![(name, arguments)] }
            }
            Err(tool) => Answer::Say(format!(
                "You asked me to {}, but the tool `{tool}` is not available in this session.",
                wish.describe()
            )),
        };
    }
    if results.is_empty() { Answer::Say(chat(&asked)) } else { Answer::Say(report(&results)) }
}

/// What a user asks for in plain words.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    Run(String),
    Read(String),
    List(String),
}

impl Wish {
    fn describe(&self) -> String {
        match self {
            Wish::Run(command) => format!("run `{command}`"),
            Wish::Read(path) => format!("read `{path}`"),
            Wish::List(path) => format!("list the files in `{path}`"),
        }
    }

    fn announce(&self) -> String {
        match self {
            Wish::Run(command) => format!("Running `{command}`."),
            Wish::Read(path) => format!("Reading `{path}`."),
            Wish::List(path) => format!("Listing the files in `{path}`."),
        }
    }

    /// The tool call, or the name of the tool that is missing.
    fn call(&self, request: &ModelRequest) -> Result<(String, Value), &'static str> {
        let has = |name: &str| request.tools.iter().any(|t| t.name == name);
        match self {
            Wish::Run(command) if has("exec") => Ok(("exec".to_owned(), json!({ "command": command }))),
            Wish::Run(_) => Err("exec"),
            Wish::Read(path) if has("read") => Ok(("read".to_owned(), json!({ "path": path }))),
            Wish::Read(_) => Err("read"),
            Wish::List(path) if has("ls") => Ok(("ls".to_owned(), json!({ "path": path }))),
            Wish::List(path) if has("exec") => Ok((
                "exec".to_owned(),
                json!({ "command": format!("ls -la -- '{}'", path.replace('\'', "'\\''")) }),
            )),
            Wish::List(_) => Err("ls"),
        }
    }
}

/// Every line (and every part between `; then `) may hold one wish; wishes are carried out in order.
fn wishes(text: &str) -> Vec<Wish> {
    text.lines().flat_map(|line| line.split(" then ")).filter_map(wish).collect()
}

fn wish(line: &str) -> Option<Wish> {
    let line = without_stamp(line.trim()).trim().trim_end_matches([';', ',']).trim();
    if let Some(command) = after_word(line, &["run:", "exec:", "execute:", "$ "]) {
        return Some(Wish::Run(command.to_owned()));
    }
    if let Some(path) = after_word(
        line,
        &["read:", "read the file ", "read file ", "please read ", "read ", "show me the file ", "cat "],
    ) {
        let path = path.trim_end_matches(['.', '?', '!']).trim_matches(['`', '"', '\'']);
        return (!path.is_empty() && !path.contains(' ')).then(|| Wish::Read(path.to_owned()));
    }
    if let Some(rest) = after_word(line, &["list the files", "list files", "ls"]) {
        let path =
            ["in ", "of ", ":"].iter().find_map(|w| rest.trim().strip_prefix(w)).unwrap_or(rest).trim();
        let path = path.trim_end_matches(['?', '!']).trim_matches(['`', '"', '\'']);
        let path = if path == "." || path.is_empty() { "." } else { path.trim_end_matches('.') };
        return (!path.contains(' ')).then(|| Wish::List(path.to_owned()));
    }
    None
}

/// A message may carry a bracketed time or sender in front.
fn without_stamp(line: &str) -> &str {
    match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, rest)) => rest,
        None => line,
    }
}

/// What follows one of the words at the start of the line, whatever its case.
fn after_word<'a>(line: &'a str, words: &[&str]) -> Option<&'a str> {
    words.iter().find_map(|word| {
        let head = line.get(..word.len())?;
        if !head.eq_ignore_ascii_case(word) {
            return None;
        }
        let rest = line.get(word.len()..)?;
        let whole =
            word.ends_with([':', ' ']) || rest.is_empty() || rest.starts_with([' ', ':', '.', '?', '!']);
        whole.then(|| rest.trim())
    })
}

fn chat(asked: &str) -> String {
    let asked = without_stamp(asked.trim()).trim();
    let echo: String = asked.chars().take(ECHO_CHARS_MAX).collect();
    let said =
        if echo.is_empty() { "You sent an empty message.".to_owned() } else { format!("You said: {echo}") };
    format!(
        "{said}\n\nI am the built-in demo model. I work offline and am not a language model: I echo what you write \
         and call tools when asked in plain words. Try `run: uname -a`, `read README.md` or `list files`.\n\n\
         For real answers set a key (for instance OPENROUTER_API_KEY) or start a local server such as Ollama, then \
         choose the model: `openclaw config set agents.defaults.model.primary openrouter/auto`."
    )
}

fn report(results: &[&ToolResultMessage]) -> String {
    let mut out = String::new();
    for result in results {
        let text = joined_text(&result.content);
        let shown: String = text.trim_end().chars().take(RESULT_CHARS_MAX).collect();
        let cut = if text.trim_end().chars().count() > RESULT_CHARS_MAX { "\n… (cut)" } else { "" };
        let verdict = if result.is_error { "failed" } else { "answered" };
        // A fence longer than any in the text keeps the text whole.
        let fence = if shown.contains("```") { "````" } else { "```" };
        let body = if shown.is_empty() {
            "(nothing)".to_owned()
        } else {
            format!("\n{fence}\n{shown}{cut}\n{fence}\n")
        };
        out.push_str(&format!("The tool `{}` {verdict}: {body}\n", result.tool_name));
    }
    out.push_str("\n(This is the offline demo model: it reports what tools say and adds nothing.)");
    out
}

fn user_text(message: &Message) -> String {
    match message {
        Message::User(user) => user.content.text(),
        _ => String::new(),
    }
}

/// Words with the white space that follows them.
fn words(text: &str) -> Vec<String> {
    text.split_inclusive(char::is_whitespace).map(str::to_owned).collect()
}

/// The usual estimate of four characters to a token.
fn tokens(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(4)
}

fn prompt_tokens(request: &ModelRequest) -> u64 {
    let block = |b: &Block| match b {
        Block::Text { text, .. } => tokens(text),
        Block::Thinking { thinking, .. } => tokens(thinking),
        Block::ToolCall { arguments, .. } => tokens(&arguments.to_string()),
        Block::Image { .. } => 1000,
    };
    let message = |m: &Message| match m {
        Message::User(user) => user.content.blocks().iter().map(block).sum(),
        Message::Assistant(assistant) => assistant.content.iter().map(block).sum(),
        Message::ToolResult(result) => result.content.iter().map(block).sum::<u64>(),
    };
    let tools: u64 = request.tools.iter().map(|t| tokens(&t.description)).sum();
    tokens(&request.system).saturating_add(tools).saturating_add(request.messages.iter().map(message).sum())
}

#[cfg(test)]
mod tests;
