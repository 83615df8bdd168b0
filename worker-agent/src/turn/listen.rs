//! One stream of a model: what may be shown goes to the clients as it comes, the rest into the message.

use std::time::Instant;

use futures_util::StreamExt;
use proto::runtime::failpoint;
use proto::wire::agent::DeltaKind;
use serde_json::json;

use super::driver::Run;
use super::request::Reply;
use super::source::ModelFacts;
use super::stream_text::StreamText;
use crate::clock::now_ms;
use crate::provider::types::StopReason;
use crate::provider::{EventStream, ProviderError, ProviderEvent, Reason};
use crate::session::message::AssistantMessage;

/// How one stream ended.
pub enum Outcome {
    Answered(AssistantMessage),
    /// The run was stopped; what had come so far.
    Stopped(AssistantMessage),
    Failed(ProviderError, AssistantMessage),
}

/// Takes the stream to its end and passes on what may be shown.
pub async fn listen(run: &mut Run, facts: &ModelFacts, mut stream: EventStream) -> Outcome {
    let mut reply = Reply::default();
    let mut shown = StreamText::default();
    let (begin, mut silent) = (Instant::now(), true);
    let thinking_shown = run.entry.str("reasoningLevel") == Some("stream");
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = run.control.cancel.cancelled() => {
                return Outcome::Stopped(reply.finish(facts, StopReason::Aborted, now_ms()));
            }
        };
        if silent
            && matches!(
                event,
                Some(Ok(ProviderEvent::TextDelta { .. } | ProviderEvent::ThinkingDelta { .. }))
            )
        {
            silent = false;
            let facts = json!({"ms": u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX)});
            run.events.step(run.heard.step, "first", facts.to_string()).await;
        }
        match event {
            Some(Ok(ProviderEvent::TextDelta { text })) => {
                failpoint::hit("ag.llm.mid_stream");
                reply.text(&text);
                run.events.delta(run.heard.message_no, DeltaKind::Text, shown.push(&text));
            }
            Some(Ok(ProviderEvent::TextEnd { signature })) => reply.text_end(signature),
            Some(Ok(ProviderEvent::ThinkingDelta { text, signature })) => {
                reply.thinking(&text, signature);
                let text = if thinking_shown { text } else { String::new() };
                run.events.delta(run.heard.message_no, DeltaKind::Thinking, text);
            }
            Some(Ok(ProviderEvent::ToolCallStart { .. } | ProviderEvent::ToolCallDelta { .. })) => {
                run.agent.up.progressed();
            }
            Some(Ok(ProviderEvent::ToolCallEnd { id, name, arguments, thought_signature, .. })) => {
                reply.call(id, name, arguments, thought_signature);
            }
            Some(Ok(ProviderEvent::Usage(usage))) => reply.usage(usage),
            Some(Ok(ProviderEvent::Restart { attempt, wait, reason, message, discard })) => {
                if discard {
                    run.events.discard(run.heard.message_no).await;
                    reply = Reply::default();
                    shown = StreamText::default();
                    run.heard.message_no += 1;
                }
                let detail =
                    format!("request {attempt} in {} ms: {} ({message})", wait.as_millis(), reason.class());
                run.events.step(run.heard.step, "retry", detail).await;
            }
            Some(Ok(ProviderEvent::Done { stop_reason })) => {
                run.events.delta(run.heard.message_no, DeltaKind::Text, shown.end());
                return Outcome::Answered(reply.finish(facts, stop_reason, now_ms()));
            }
            Some(Err(error)) if error.reason == Reason::Cancelled && run.control.cancel.is_cancelled() => {
                return Outcome::Stopped(reply.finish(facts, StopReason::Aborted, now_ms()));
            }
            Some(Err(error)) => {
                return Outcome::Failed(error, reply.finish(facts, StopReason::Error, now_ms()));
            }
            None => {
                let error = ProviderError::new(Reason::Truncated, &facts.provider, &facts.id, "");
                return Outcome::Failed(error, reply.finish(facts, StopReason::Error, now_ms()));
            }
        }
    }
}
