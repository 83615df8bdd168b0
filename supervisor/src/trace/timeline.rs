//! From the journal's rows and the steps to one timeline. PURE.

use super::Step;
use crate::journal::{Found, InboundRow, OutboxRow, RunRow};
use serde_json::{Map, Value, json};

/// What `trace.get` answers. Times: Unix milliseconds, with fractions in the steps.
pub fn timeline(found: &Found, steps: &[Step]) -> Value {
    let mut all: Vec<Value> = found.inbound.iter().map(received).collect();
    all.extend(steps.iter().map(shown));
    // Steps of one process come in order; those of another that were told late stand where they belong.
    all.sort_by(|a, b| time(a).total_cmp(&time(b)));
    json!({
        "run": found.run.as_ref().map(run_facts),
        "messages": found.inbound.iter().map(message_facts).collect::<Vec<_>>(),
        "deliveries": found.outbox.iter().map(delivery_facts).collect::<Vec<_>>(),
        "model": model_facts(steps),
        "open": is_open(found),
        "steps": all,
    })
}

/// Something of it is still to come.
fn is_open(found: &Found) -> bool {
    match &found.run {
        Some(run) => run.times.ended_us.is_none() || found.outbox.iter().any(|row| row.state.open()),
        None => {
            found.inbound.iter().any(|row| row.state.name() == "queued" || row.state.name() == "received")
        }
    }
}

fn time(step: &Value) -> f64 {
    step["atMs"].as_f64().unwrap_or_default()
}

fn ms(us: i64) -> f64 {
    us as f64 / 1000.0
}

fn whole_ms(us: Option<i64>) -> Option<i64> {
    us.map(|us| us / 1000)
}

fn run_facts(run: &RunRow) -> Value {
    let times = &run.times;
    json!({
        "runId": run.client_run_id, "id": run.run_id.to_string(), "sessionKey": run.session_key, "agentId": run.agent,
        "lane": run.lane, "state": run.state.name(), "attempts": run.counts.attempt, "crashes": run.counts.crashes,
        "interruptions": run.counts.interruptions, "createdAtMs": times.created_us / 1000,
        "startedAtMs": whole_ms(times.started_us), "endedAtMs": whole_ms(times.ended_us),
        "durationMs": times.ended_us.map(|end| (end - times.created_us).max(0) / 1000),
    })
}

fn message_facts(row: &InboundRow) -> Value {
    json!({
        "account": row.account, "messageId": row.ext_id, "chat": row.chat, "state": row.state.name(),
        "sessionKey": row.session_key, "receivedAtMs": row.recv_us / 1000, "networkAtMs": whole_ms(row.net_ts_us),
    })
}

fn delivery_facts(row: &OutboxRow) -> Value {
    json!({
        "id": row.item.out_id.to_string(), "part": row.item.part, "account": row.item.account, "chat": row.item.chat,
        "state": row.state.name(), "attempts": row.attempts, "maybeDup": row.maybe_dup, "messageIds": row.ext_ids,
        "why": row.err,
    })
}

/// C1, which the journal knows by itself.
fn received(row: &InboundRow) -> Value {
    let late = row.net_ts_us.map(|sent| ((row.recv_us - sent) / 1000).max(0));
    let mut text = format!("message {} stored for {}", row.ext_id, row.session_key);
    // Networks tell whole seconds.
    if let Some(late) = late.filter(|late| *late >= 2_000) {
        text.push_str(&format!("; the network had it {} earlier", span(late)));
    }
    json!({"atMs": ms(row.recv_us), "by": row.account, "what": "received", "text": text, "messageId": row.ext_id})
}

fn shown(step: &Step) -> Value {
    let mut shown: Map<String, Value> = step.detail.clone();
    shown.insert("atMs".into(), json!(ms(step.at_us)));
    shown.insert("by".into(), json!(step.by));
    shown.insert("what".into(), json!(step.what));
    shown.insert("text".into(), json!(sentence(step)));
    Value::Object(shown)
}

/// Calls, tokens and cost of all attempts together; the first word of the first call that gave one.
fn model_facts(steps: &[Step]) -> Value {
    let answers = || steps.iter().filter(|step| step.what == "answer");
    let sum = |field: &str| {
        answers().filter_map(|step| step.detail.get(field)?.as_u64()).fold(0, u64::saturating_add)
    };
    let first = steps.iter().find(|step| step.what == "first").and_then(|step| step.detail.get("ms"));
    json!({
        "calls": answers().count(), "inputTokens": sum("input"), "outputTokens": sum("output"),
        "cacheReadTokens": sum("cacheRead"), "costUsd": sum("costMicros") as f64 / 1e6, "firstWordMs": first,
    })
}

/// What happened, for people.
pub fn sentence(step: &Step) -> String {
    let text = |name: &str| step.detail.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| step.detail.get(name).and_then(Value::as_u64).unwrap_or_default();
    let detail = text("detail");
    let why = |text: &str| if text.is_empty() { String::new() } else { format!(": {text}") };
    match step.what.as_str() {
        "claimed" => format!("run made of {}", count(number("messages"), "message")),
        "started" => match number("attempt") {
            0 | 1 => format!("given to the agent's worker (start {})", number("epoch")),
            attempt => format!("given to the agent's worker (start {}), attempt {attempt}", number("epoch")),
        },
        "begun" => "turn begun".to_owned(),
        "model" => format!("asks {detail}"),
        "first" => format!("first word after {}", span_u(number("ms"))),
        "answer" => answer(step, number, text),
        "retry" => format!("the model is asked again{}", why(detail)),
        "fallback" => format!("another model{}", why(detail)),
        "refused" => format!("the model failed after {}{}", span_u(number("ms")), why(text("why"))),
        "stopped" => format!("stopped after {}{}", span_u(number("ms")), why(text("why"))),
        "compact" => "summarises the conversation".to_owned(),
        "tool" => format!("calls {detail}"),
        "result" => {
            let failed =
                if step.detail.get("failed") == Some(&Value::Bool(true)) { "failed" } else { "done" };
            format!("{} {failed} after {}", text("tool"), span_u(number("ms")))
        }
        "steered" => format!("takes {} more", count(number("messages"), "message")),
        "interrupted" => format!("attempt {} broken off{}", number("attempt"), why(text("cause"))),
        "ended" => format!("end stored: {}, {}", text("state"), count(number("parts"), "reply part")),
        _ => delivery(step, number, text, why(text("why"))),
    }
}

fn answer<'a>(step: &Step, number: impl Fn(&str) -> u64, text: impl Fn(&str) -> &'a str) -> String {
    let mut said = format!("answered after {}", span_u(number("ms")));
    said.push_str(&format!(" ({} in, {} out", number("input"), number("output")));
    if number("cacheRead") > 0 {
        said.push_str(&format!(", {} from the cache", number("cacheRead")));
    }
    if number("costMicros") > 0 {
        said.push_str(&format!(", ${:.4}", number("costMicros") as f64 / 1e6));
    }
    said.push(')');
    if step.detail.contains_key("stop") {
        said.push_str(&format!(", {}", text("stop")));
    }
    said
}

/// Steps of one part of the reply.
fn delivery<'a>(
    step: &Step,
    number: impl Fn(&str) -> u64,
    text: impl Fn(&str) -> &'a str,
    why: String,
) -> String {
    let part = format!("part {} for {} {}", number("part"), text("account"), text("chat"));
    let ids = step.detail.get("messageIds").and_then(Value::as_array);
    let ids = ids.map(|ids| ids.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
    let dup =
        if step.detail.get("maybeDup") == Some(&Value::Bool(true)) { "; it may be there twice" } else { "" };
    match step.what.as_str() {
        "queued" => format!("{part} stored"),
        "leased" => format!("{part} given to the channel's worker, try {}", number("attempt")),
        "wire" => format!("{part} may leave the host"),
        "placed" => format!("{part} has its placeholder"),
        "delivered" => format!("{part} delivered as {}", ids.unwrap_or_default()),
        "putOff" => format!("{part} put off{why}"),
        "released" => format!("{part} given back: the channel's worker ended{dup}"),
        "unknown" => format!("{part}: nobody knows whether it arrived{why}{dup}"),
        "failed" => format!("{part} failed{why}"),
        "expired" => format!("{part} is out of date and not sent"),
        "revived" => format!("{part} put back by hand"),
        "discarded" => format!("{part} given up by hand"),
        other => other.to_owned(),
    }
}

fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

fn span_u(ms: u64) -> String {
    span(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// `412 ms`, `2.3 s`, `4 min`.
pub fn span(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests;
