//! People on Telegram, one per account: each of their messages is answered once.

use super::Tally;
use crate::telegram_server::TelegramServer;
use crate::wait::pause;
use std::time::Duration;
use tokio::sync::watch;

/// Between two messages of one person.
const TYPING: Duration = Duration::from_millis(700);
/// All answers are there after this at the latest.
const PATIENCE: Duration = Duration::from_secs(90);

fn chat(n: usize) -> i64 {
    9000 + n as i64
}

/// Writes until told to stop.
pub async fn write_on(bot: TelegramServer, n: usize, tally: Tally, stopped: watch::Receiver<bool>) {
    for turn in 0.. {
        if *stopped.borrow() {
            return;
        }
        bot.push_text(chat(n), chat(n), &format!("mark-{n}-{turn}- hello"));
        tally.add(ACCOUNTS.get(n).copied().unwrap_or("messages of others"));
        pause(TYPING).await;
    }
}

const ACCOUNTS: [&str; 3] = ["messages to bot 0", "messages to bot 1", "messages to bot 2"];

/// Waits for the answers and counts them.
pub async fn check(bot: &TelegramServer, n: usize, tally: &Tally) {
    let sent = tally.count(ACCOUNTS.get(n).copied().unwrap_or("messages of others"));
    let answers = |turn: u64| {
        let answer = format!("got mark-{n}-{turn}-");
        bot.visible_texts(chat(n)).iter().filter(|text| text.trim() == answer).count()
    };
    let end = tokio::time::Instant::now() + PATIENCE;
    while (0..sent).any(|turn| answers(turn) == 0) && tokio::time::Instant::now() < end {
        pause(Duration::from_millis(50)).await;
    }
    for turn in 0..sent {
        match answers(turn) {
            1 => tally.add("messages answered once"),
            times => tally.fault("messages lost or twice", format!("mark-{n}-{turn}-: {times} answers")),
        }
    }
}
