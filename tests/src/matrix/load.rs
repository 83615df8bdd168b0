//! Messages with a mark each (`mark-<who>-<number>`), by people in Telegram chats and by calling programs. Whoever sends
//! keeps a book of what was taken: only what was taken must be answered, and all of it.

use super::Class;
use super::caller::Patient;
use crate::telegram_server::TelegramServer;
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Chats of the people; person `n` writes in chat `FIRST_CHAT + n`.
pub const FIRST_CHAT: i64 = 7001;

/// Something that was said.
#[derive(Debug, Clone)]
pub struct Said {
    pub mark: String,
    pub class: Class,
    /// Chat of a person, or session of a program.
    pub chat: i64,
    pub session: String,
}

/// Everything said so far, in order per session. Shared by all who send.
#[derive(Debug, Clone, Default)]
pub struct Book(Arc<Mutex<Vec<Said>>>, Arc<Mutex<Vec<String>>>);

/// What a sender is told when a run ended by a panic: the run is over and said so, which is an outcome.
const INTERNAL: [&str; 2] = ["internal error in the agent", "file task ended early"];

/// Whether a text tells its reader that the run ended by a panic.
pub fn tells_of_a_panic(text: &str) -> bool {
    INTERNAL.iter().any(|words| text.contains(words))
}

impl Book {
    pub fn all(&self) -> Vec<Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sender was told that there will be no answer.
    pub fn told(&self, mark: &str) {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).push(mark.to_owned());
    }

    pub fn was_told(&self, mark: &str) -> bool {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|told| told == mark)
    }

    pub fn note(&self, said: Said) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    }
}

/// The words of a message.
pub fn words(class: Class, mark: &str) -> String {
    match class {
        Class::File => format!("send the file for {mark}"),
        _ => format!("do the work for {mark}"),
    }
}

/// A person writes. The network keeps the message until the gateway has it, so it counts as said at once.
pub fn write(server: &TelegramServer, book: &Book, class: Class, person: i64, nth: usize) -> String {
    let mark = format!("mark-{}{person}-{nth:04}", class.name());
    let chat = FIRST_CHAT + person;
    let session = format!("telegram {chat}");
    book.note(Said { mark: mark.clone(), class, chat, session });
    server.push_text(chat, chat, &words(class, &mark));
    mark
}

/// A program calls `chat.send` until it has an answer, then waits for the end of the run. Returns how it ended.
pub async fn call(
    port: u16,
    book: &Book,
    session: &str,
    mark: &str,
    patience: Duration,
) -> Result<Called, String> {
    let until = Instant::now() + patience;
    let mut caller = Patient::new(port);
    let params = json!({"sessionKey": session, "message": words(Class::Rpc, mark), "idempotencyKey": mark});
    let mut refusals = 0_u32;
    loop {
        match caller.call("chat.send", &params, until).await {
            Some(Ok(_taken)) => break,
            Some(Err(refusal)) if refusal["retryable"] == true => refusals += 1,
            Some(Err(refusal)) => return Err(format!("{mark} was refused: {refusal}")),
            None => return Err(format!("{mark} was not taken in {patience:?}")),
        }
        crate::wait::pause(Duration::from_millis(50)).await;
    }
    let said = Said { mark: mark.to_owned(), class: Class::Rpc, chat: 0, session: session.to_owned() };
    book.note(said);
    let wait = json!({"runId": mark, "timeoutMs": 5_000});
    loop {
        match caller.call("agent.wait", &wait, until).await {
            Some(Ok(answer)) if answer["status"] == "ok" => {
                return Ok(Called { repeats: caller.repeats, refusals });
            }
            Some(Ok(answer)) if answer["status"] == "timeout" => {}
            Some(Ok(answer)) if tells_of_a_panic(&answer.to_string()) => {
                book.told(mark);
                return Ok(Called { repeats: caller.repeats, refusals });
            }
            Some(Ok(answer)) => return Err(format!("{mark} ended badly: {answer}")),
            Some(Err(refusal)) if refusal["retryable"] == true => {}
            Some(Err(refusal)) => return Err(format!("the end of {mark} was refused: {refusal}")),
            None => return Err(format!("{mark} was taken and has no end after {patience:?}")),
        }
    }
}

/// How a call went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Called {
    /// Repeated for a lost answer.
    pub repeats: u32,
    /// Refused for now ("try again").
    pub refusals: u32,
}
