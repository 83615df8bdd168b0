//! A reply with a thought, a text, two calls and its counts, as each vendor documents its stream: whole, cut in two at
//! every byte, broken off at every byte, and damaged. Whatever comes, a decoder answers with events or a fault.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::exchange::{Decoder, Fault};
use super::super::sse::{Frame, Framer, Framing};
use super::super::types::{ProviderEvent, StopReason, Usage};
use super::super::{anthropic_messages, google_generative_ai, ollama, openai_completions, openai_responses};

struct Recorded {
    kind: &'static str,
    stream: &'static str,
    framing: Framing,
    decoder: fn() -> Box<dyn Decoder>,
}

macro_rules! recorded {
    ($kind:ident, $name:literal, $file:literal, $framing:ident) => {
        Recorded {
            kind: $name,
            stream: include_str!(concat!("recorded/", $file)),
            framing: Framing::$framing,
            decoder: || Box::new($kind::decode::Decode::default()),
        }
    };
}

fn all() -> [Recorded; 5] {
    [
        recorded!(openai_completions, "openai-completions", "openai_completions.sse", Events),
        recorded!(openai_responses, "openai-responses", "openai_responses.sse", Events),
        recorded!(anthropic_messages, "anthropic-messages", "anthropic_messages.sse", Events),
        recorded!(google_generative_ai, "google-generative-ai", "google_generative_ai.sse", Events),
        recorded!(ollama, "ollama", "ollama.ndjson", JsonLines),
    ]
}

/// What a body in these pieces becomes.
fn decoded(recorded: &Recorded, pieces: &[&[u8]]) -> Result<Vec<ProviderEvent>, Fault> {
    let (mut framer, mut decoder) = (Framer::new(recorded.framing), (recorded.decoder)());
    let (mut frames, mut out) = (Vec::new(), VecDeque::new());
    for piece in pieces {
        framer.push(piece, &mut frames).expect("no long lines");
    }
    framer.end(&mut frames).expect("no long lines");
    for frame in &frames {
        decoder.frame(frame, &mut out)?;
        if decoder.ended() {
            break;
        }
    }
    decoder.finish(&mut out)?;
    Ok(out.into())
}

/// The visible parts of a reply.
#[derive(Debug, Default, PartialEq)]
struct Told {
    text: String,
    thinking: String,
    calls: Vec<(String, Value)>,
    deltas: String,
    usage: Usage,
    stop: Option<StopReason>,
}

fn told(events: &[ProviderEvent]) -> Told {
    let mut told = Told::default();
    for event in events {
        match event {
            ProviderEvent::TextDelta { text } => told.text.push_str(text),
            ProviderEvent::ThinkingDelta { text, .. } => told.thinking.push_str(text),
            ProviderEvent::ToolCallDelta { json, .. } => told.deltas.push_str(json),
            ProviderEvent::ToolCallEnd { name, arguments, .. } => {
                told.calls.push((name.clone(), arguments.clone()));
            }
            ProviderEvent::Usage(usage) => told.usage = *usage,
            ProviderEvent::Done { stop_reason } => told.stop = Some(*stop_reason),
            _ => {}
        }
    }
    told
}

#[test]
fn every_vendors_stream_tells_the_same() {
    for recorded in all() {
        let kind = recorded.kind;
        let told = told(&decoded(&recorded, &[recorded.stream.as_bytes()]).expect(kind));
        assert_eq!(told.text, "Ich schaue nach: 日本 \"x\"", "{kind}");
        assert_eq!(told.thinking.replace("**", "").split("\n\n").next(), Some("Über Umwege 🤔"), "{kind}");
        let calls = [("exec".to_owned(), json!({ "command": "ls -l" })), ("ls".to_owned(), json!({}))];
        assert_eq!(told.calls, calls, "{kind}");
        assert_eq!(told.stop, Some(StopReason::ToolUse), "{kind}");
        let usage = told.usage;
        let (input, read, write) = match kind {
            "ollama" => (1200, 0, 0),
            "anthropic-messages" => (150, 1000, 50),
            _ => (200, 1000, 0),
        };
        assert_eq!(
            (usage.input, usage.cache_read, usage.cache_write, usage.output, usage.total_tokens),
            (input, read, write, 80, 1280),
            "{kind}"
        );
    }
}

#[test]
fn what_goes_back_to_the_vendor_is_kept() {
    let kept = |kind: &str| {
        let recorded = all().into_iter().find(|r| r.kind == kind).expect(kind);
        let events = decoded(&recorded, &[recorded.stream.as_bytes()]).expect(kind);
        let marks = events.into_iter().filter_map(|event| match event {
            ProviderEvent::ThinkingDelta { signature, .. } => signature,
            ProviderEvent::TextEnd { signature } => Some(signature),
            ProviderEvent::ToolCallEnd { id, thought_signature, .. } => {
                Some(thought_signature.map_or(id.clone(), |signature| format!("{id}: {signature}")))
            }
            _ => None,
        });
        marks.collect::<Vec<_>>()
    };
    insta::assert_json_snapshot!(json!({
        "openai-completions": kept("openai-completions"),
        "openai-responses": kept("openai-responses"),
        "anthropic-messages": kept("anthropic-messages"),
        "google-generative-ai": kept("google-generative-ai"),
    }));
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for recorded in all() {
        let bytes = recorded.stream.as_bytes();
        let whole = told(&decoded(&recorded, &[bytes]).expect(recorded.kind));
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            let cut =
                decoded(&recorded, &[head, tail]).unwrap_or_else(|f| panic!("{} {at}: {f:?}", recorded.kind));
            assert_eq!(told(&cut), whole, "{} cut at {at}", recorded.kind);
        }
    }
}

#[test]
fn a_stream_that_breaks_off_at_any_byte_is_no_answer() {
    for recorded in all() {
        let bytes = recorded.stream.as_bytes();
        let whole = told(&decoded(&recorded, &[bytes]).expect(recorded.kind));
        for at in 0..bytes.len() {
            let Ok(events) = decoded(&recorded, &[&bytes[..at]]) else { continue };
            let told = told(&events);
            // Only the counts may be missing: they come after the end of the reply in one kind.
            assert_eq!(
                (&told.text, &told.calls),
                (&whole.text, &whole.calls),
                "{} cut at {at}",
                recorded.kind
            );
        }
    }
}

/// Values with the names that decoders look for, in places where they may not expect them.
fn odd_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~é漢]{0,12}".prop_map(Value::from),
        prop::sample::select(WORDS).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(NAMES), inner), 0..6).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

const NAMES: &[&str] = &[
    "type",
    "choices",
    "delta",
    "message",
    "content",
    "tool_calls",
    "function",
    "index",
    "id",
    "name",
    "arguments",
    "finish_reason",
    "usage",
    "reasoning_details",
    "item",
    "output_index",
    "output",
    "response",
    "status",
    "summary",
    "text",
    "object",
    "content_block",
    "partial_json",
    "signature",
    "candidates",
    "parts",
    "functionCall",
    "args",
    "thought",
    "thoughtSignature",
    "finishReason",
    "usageMetadata",
    "promptFeedback",
    "error",
    "done",
    "done_reason",
    "thinking",
    "0",
];
const WORDS: &[&str] = &[
    "response.output_item.added",
    "response.output_item.done",
    "response.function_call_arguments.delta",
    "response.completed",
    "response.incomplete",
    "response",
    "function_call",
    "reasoning",
    "message",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "tool_use",
    "input_json_delta",
    "stop",
    "tool_calls",
    "STOP",
    "error",
    "[DONE]",
    "incomplete",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for recorded in all() {
            let _answer_or_fault = decoded(&recorded, &[&bytes]);
        }
    }

    #[test]
    fn damage_never_makes_a_decoder_panic(
        kind in 0_usize..5, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let recorded = &all()[kind];
        let mut bytes = recorded.stream.as_bytes().to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _answer_or_fault = decoded(recorded, &[&bytes]);
    }

    #[test]
    fn no_json_makes_a_decoder_panic(
        event in prop::sample::select(WORDS), values in prop::collection::vec(odd_value(), 1..6),
    ) {
        for recorded in all() {
            let (mut decoder, mut out) = ((recorded.decoder)(), VecDeque::new());
            for value in &values {
                let frame = Frame { event: event.to_owned(), data: value.to_string() };
                if decoder.frame(&frame, &mut out).is_err() {
                    break;
                }
            }
            let _answer_or_fault = decoder.finish(&mut out);
        }
    }
}
