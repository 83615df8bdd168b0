//! Steps of runs that a transaction makes. They are told when it is committed, and forgotten with what is undone.
//!
//! Every change of a run or a delivery goes through a few functions of this module's siblings, all on the journal's thread; they
//! note it here, so that no caller can forget to.

use super::types::{NewOutbox, OutboxRow, RunRow};
use crate::trace::book::Book;
use crate::trace::{GATEWAY, Step};
use proto::wire::id::Id;
use serde_json::{Value, json};
use std::cell::RefCell;

thread_local! {
    static NOTED: RefCell<Vec<Step>> = const { RefCell::new(Vec::new()) };
}

pub fn run(run_id: Id, what: &str, detail: Value) {
    NOTED.with_borrow_mut(|noted| noted.push(Step::new(run_id, GATEWAY, what, detail)));
}

/// A part of a reply is stored.
pub fn queued(new: &NewOutbox) {
    let Some(run_id) = new.run_id else { return };
    run(run_id, "queued", json!({"part": new.part, "account": new.account, "chat": new.chat}));
}

/// A delivery as it is now; one without a run (a note) has no steps.
pub fn delivery(row: &OutboxRow, what: &str) {
    let Some(run_id) = row.item.run_id else { return };
    let mut detail = json!({"part": row.item.part, "account": row.item.account, "chat": row.item.chat});
    let facts = [
        ("attempt", json!(row.attempts)),
        ("messageIds", json!(row.ext_ids)),
        ("why", json!(row.err)),
        ("maybeDup", json!(row.maybe_dup)),
        ("epoch", json!(row.epoch)),
    ];
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Number(number) => number.as_u64() != Some(0),
        _ => true,
    };
    for (name, value) in facts.into_iter().filter(|(_, value)| says(value)) {
        detail[name] = value;
    }
    run(run_id, what, detail);
}

pub fn interrupted(row: &RunRow, cause: &str) {
    let detail = json!({"attempt": row.counts.attempt, "cause": cause, "epoch": row.epoch});
    run(row.run_id, "interrupted", detail);
}

/// How many there are.
pub fn mark() -> usize {
    NOTED.with_borrow(Vec::len)
}

/// What was noted since was undone.
pub fn undo(mark: usize) {
    NOTED.with_borrow_mut(|noted| noted.truncate(mark));
}

/// It is committed.
pub fn tell(book: &Book) {
    NOTED.with_borrow_mut(|noted| noted.drain(..).for_each(|step| book.note(step)));
}
