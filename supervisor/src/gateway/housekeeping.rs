//! What is done now and then: replies that are too old, runs that wait long, rows that nobody needs any more, a lock file
//! that was replaced.

use super::start::Locks;
use crate::journal::{ExpiredChat, Journal, NewOutbox};
use crate::scheduler::core::Core;
use crate::scheduler::outcome::{EXPIRY_NOTE_PART, row_to};
use crate::scheduler::shared::now_us;
use proto::wire::agent::{OutPart, Target};
use std::rc::Rc;
use tokio::time::{Duration, MissedTickBehavior};

/// How often out-of-date replies are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(30);
/// One retention pass in so many looks (one hour).
const TRIM_EVERY: u32 = 120;

/// Runs for the life of the gateway.
pub async fn run(core: Core, locks: Rc<Locks>) {
    let mut ticks = tokio::time::interval(EXPIRE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0u32;
    loop {
        ticks.tick().await;
        expire(&core).await;
        for wait in core.shared().lanes.long_waits() {
            let (session, lane, ahead, ms) = (wait.session, wait.lane, wait.ahead, wait.waited_ms);
            tracing::warn!(
                session,
                lane,
                ahead,
                ms,
                "a run waits long for its lane; see agents.defaults.maxConcurrent"
            );
        }
        if locks.displaced() {
            tracing::error!(
                "the lock file of the state directory was replaced: a second gateway could start; restart this one"
            );
        }
        if count.is_multiple_of(TRIM_EVERY) && !crate::clock::leapt() {
            trim(&core).await;
        }
        count = count.wrapping_add(1);
    }
}

async fn expire(core: &Core) {
    let now_us = now_us();
    match core.shared().journal.expire(now_us, move |expired| expiry_note(expired, now_us)).await {
        Ok(chats) => {
            for chat in chats {
                let (account, count) = (&chat.account, chat.count);
                tracing::warn!(account, count, "replies went out of date before they could be sent");
                core.shared().delivery.wake(account);
            }
        }
        Err(error) => tracing::debug!(%error, "old replies not looked at"),
    }
}

/// One line per chat, never a burst of stale answers. Notes that went out of date themselves make no further note: a chat
/// that cannot be reached would get one an hour for ever.
fn expiry_note(expired: &ExpiredChat, now_us: i64) -> Option<NewOutbox> {
    let replies = expired.parts.iter().filter(|part| **part != EXPIRY_NOTE_PART).count();
    let (channel, account) = expired.account.split_once(':').filter(|_| replies > 0)?;
    let (chat, thread) = match expired.chat.split_once('#') {
        Some((chat, thread)) => (chat, Some(thread.to_owned())),
        None => (expired.chat.as_str(), None),
    };
    let to =
        Target { channel: channel.to_owned(), account: account.to_owned(), chat: chat.to_owned(), thread };
    let noun = if replies == 1 { "reply" } else { "replies" };
    let text = format!("{replies} {noun} could not be delivered in time and will not come.");
    let part = OutPart { part: EXPIRY_NOTE_PART, text, ..OutPart::default() };
    Some(row_to(&expired.first, None, &to, &part, None, now_us))
}

async fn trim(core: &Core) {
    loop {
        match core.shared().journal.trim(now_us()).await {
            Ok(trimmed) if trimmed.more => {}
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%error, "retention pass put off");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::wire::Id;

    #[test]
    fn a_note_is_made_once_and_never_about_notes() {
        let expired = |parts: &[u32]| ExpiredChat {
            account: "telegram:default".to_owned(),
            chat: "-7#3".to_owned(),
            count: 1,
            first: Id([4; 16]),
            parts: parts.to_vec(),
            oldest_us: 0,
        };
        let text = |row: &NewOutbox| String::from_utf8_lossy(&row.body).into_owned();
        let two = expiry_note(&expired(&[0, 1, EXPIRY_NOTE_PART]), 5).unwrap();
        assert!(text(&two).contains("2 replies could not"), "{}", text(&two));
        assert_eq!((two.chat.as_str(), two.part), ("-7#3", EXPIRY_NOTE_PART));
        assert_eq!(
            two.out_id,
            expiry_note(&expired(&[0]), 9).unwrap().out_id,
            "the same rows make the same note"
        );
        assert!(expiry_note(&expired(&[EXPIRY_NOTE_PART]), 5).is_none());
    }
}
