//! Where a conversation is cut: everything before goes into the summary, everything from there on stays as it is.

use std::collections::HashSet;

use serde_json::Value;

use super::estimate;
use crate::session::context;
use crate::session::entry::{Body, Entry};
use crate::session::message::Message;

/// What is summarised and what stays.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// The first entry that stays; never the result of a tool.
    pub first_kept: String,
    /// Whole turns before it.
    pub history: Vec<Message>,
    /// The beginning of the turn that is cut in two.
    pub prefix: Vec<Message>,
    /// The summary before this one, and its details.
    pub previous: Option<(String, Option<Value>)>,
}

/// None when nothing lies before the part that is to be kept.
pub fn plan(branch: &[&Entry], keep_tokens: u64) -> Option<Cut> {
    let (previous, live) = live(branch);
    let shown: Vec<(&Entry, Message)> =
        live.into_iter().filter_map(|entry| Some((entry, context::visible(entry)?))).collect();
    let borders = borders(&shown);
    let mut kept = 0;
    let wanted = shown.iter().enumerate().rev().find_map(|(at, (_, message))| {
        kept += estimate::tokens(message);
        (kept >= keep_tokens).then_some(at)
    })?;
    let at = borders
        .iter()
        .find(|at| **at >= wanted)
        .or_else(|| borders.iter().rev().find(|at| **at < wanted))
        .copied()
        .filter(|at| *at > 0)?;
    let (before, from) = shown.split_at_checked(at)?;
    let (first, message) = from.first()?;
    let turn = match message {
        Message::User(_) => before.len(),
        _ => before
            .iter()
            .rposition(|(_, message)| matches!(message, Message::User(_)))
            .unwrap_or(before.len()),
    };
    let (history, prefix) = before.split_at_checked(turn)?;
    let texts = |part: &[(&Entry, Message)]| part.iter().map(|(_, message)| message.clone()).collect();
    Some(Cut { first_kept: first.id.clone(), history: texts(history), prefix: texts(prefix), previous })
}

/// The last summary, and the entries that it does not cover.
fn live<'a>(branch: &[&'a Entry]) -> (Option<(String, Option<Value>)>, Vec<&'a Entry>) {
    let last = branch.iter().enumerate().rev().find_map(|(at, entry)| match &entry.body {
        Body::Compaction { summary, first_kept_entry_id, details, .. } => {
            Some((at, (summary.clone(), details.clone()), first_kept_entry_id.as_str()))
        }
        _ => None,
    });
    let Some((at, summary, first_kept)) = last else { return (None, branch.to_vec()) };
    let kept = branch.iter().take(at).position(|entry| entry.id == first_kept).unwrap_or(at);
    let entries = branch.iter().enumerate().filter(|(n, _)| *n >= kept && *n != at);
    (Some(summary), entries.map(|(_, entry)| *entry).collect())
}

/// Places between two messages where no call is separated from its result.
fn borders(shown: &[(&Entry, Message)]) -> Vec<usize> {
    let mut open: HashSet<String> = HashSet::new();
    let mut borders = Vec::new();
    for (at, (_, message)) in shown.iter().enumerate() {
        match message {
            Message::ToolResult(result) => {
                open.remove(&result.tool_call_id);
                continue;
            }
            _ if open.is_empty() => borders.push(at),
            _ => {}
        }
        if let Message::Assistant(answer) = message {
            // A call that another answer followed will never have a result.
            open = answer.tool_calls().into_iter().map(|call| call.id).collect();
        }
    }
    borders
}

#[cfg(test)]
mod tests;
