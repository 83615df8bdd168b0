//! What is done now and then: replies that are too old, runs that wait long, rows that nobody needs any more, a lock file
//! that was replaced.

use super::start::Locks;
use crate::journal::{ExpiredChat, Journal};
use crate::scheduler::core::Core;
use crate::scheduler::outcome::row_to;
use crate::scheduler::shared::now_us;
use proto::wire::Id;
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
        if count.is_multiple_of(TRIM_EVERY) {
            trim(&core).await;
        }
        count = count.wrapping_add(1);
    }
}

async fn expire(core: &Core) {
    match core.shared().journal.expire(now_us()).await {
        Ok(chats) => {
            for chat in chats {
                note_expired(core, &chat).await;
            }
        }
        Err(error) => tracing::debug!(%error, "old replies not looked at"),
    }
}

/// One line per chat, never a burst of stale answers.
async fn note_expired(core: &Core, expired: &ExpiredChat) {
    tracing::warn!(
        account = expired.account,
        count = expired.count,
        "replies went out of date before they could be sent"
    );
    let Some((channel, account)) = expired.account.split_once(':') else { return };
    let (chat, thread) = match expired.chat.split_once('#') {
        Some((chat, thread)) => (chat, Some(thread.to_owned())),
        None => (expired.chat.as_str(), None),
    };
    let to =
        Target { channel: channel.to_owned(), account: account.to_owned(), chat: chat.to_owned(), thread };
    let noun = if expired.count == 1 { "reply" } else { "replies" };
    let text = format!("{} {noun} could not be delivered in time and will not come.", expired.count);
    let part = OutPart { text, ..OutPart::default() };
    let row = row_to(&Id::now(), None, &to, &part, None, now_us());
    let shared = core.shared();
    match shared.journal.add_outbox(vec![row]).await {
        Ok(_) => shared.delivery.wake(&expired.account),
        Err(error) => tracing::warn!(%error, "note not stored"),
    }
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
