//! A model's server that knows how long it took: OpenAI chat completions as a stream of equal pieces.
//!
//! Smaller than `crate::model_server` on purpose: it keeps no bodies and parses nothing, so that little of the machine goes
//! into it. A request is known by the last `turn-<id>;` in its body.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Requests of more than this are no prompt of a benchmark.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What every answer is like.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Pieces of text per answer.
    pub pieces: usize,
    /// Pause before each piece.
    pub pause: Duration,
}

/// What the model knows of one answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The last byte of the request was read.
    pub asked: Instant,
    /// When each piece was written.
    pub pieces: Vec<Instant>,
    /// The last byte of the answer was written.
    pub done: Instant,
}

impl Answer {
    /// The model's share of the turn.
    pub fn took(&self) -> Duration {
        self.done - self.asked
    }
}

type Answers = Arc<Mutex<HashMap<String, Answer>>>;

/// The running server; it ends when dropped.
pub struct Model {
    address: SocketAddr,
    answers: Answers,
    task: JoinHandle<()>,
}

impl Drop for Model {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The mark that a message carries so that the model can tell turns apart.
pub fn mark(id: &str) -> String {
    format!("turn-{id};")
}

/// Piece `n` of every answer: each can be found and none is part of another.
pub fn piece(n: usize) -> String {
    format!("piece{n:04} ")
}

impl Model {
    pub async fn start(pace: Pace) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let answers = Answers::default();
        let (kept, accepting) = (answers.clone(), accept(listener, answers.clone(), pace));
        Ok(Self { address, answers: kept, task: tokio::spawn(accepting) })
    }

    /// Base URL of the provider.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What is known of a turn; it is known once the client has its end.
    pub fn answer(&self, id: &str) -> Option<Answer> {
        lock(&self.answers).get(id).cloned()
    }
}

fn lock(answers: &Answers) -> MutexGuard<'_, HashMap<String, Answer>> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, answers: Answers, pace: Pace) {
    while let Ok((socket, _)) = listener.accept().await {
        let answers = answers.clone();
        tokio::spawn(async move {
            // A client that leaves ends its connection: the turn then has no answer, and the benchmark says so.
            let _left = serve(socket, &answers, pace).await;
        });
    }
}

async fn serve(mut socket: TcpStream, answers: &Answers, pace: Pace) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(body) = request(&mut socket, &mut buffer).await? {
        let asked = Instant::now();
        let id = marked(&body).to_owned();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await?;
        let mut pieces = Vec::with_capacity(pace.pieces);
        for n in 0..pace.pieces {
            if !pace.pause.is_zero() {
                tokio::time::sleep(pace.pause).await;
            }
            let text = piece(n);
            let event = format!(r#"{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}"#);
            pieces.push(Instant::now());
            socket.write_all(chunk(&[&event], "").as_bytes()).await?;
        }
        let stop = r#"{"index":0,"delta":{},"finish_reason":"stop"}"#;
        // Noted first: the client may have the turn's end before this task runs again.
        let done = Instant::now();
        lock(answers).insert(id, Answer { asked, pieces, done });
        socket.write_all(chunk(&[stop], "data: [DONE]\n\n").as_bytes()).await?;
        socket.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

/// One chunk of the body: an event for each choice, then `rest`.
fn chunk(choices: &[&str], rest: &str) -> String {
    let mut events = String::new();
    for choice in choices {
        let usage = r#"{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}"#;
        let head = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m1""#;
        // Writing to a string cannot fail.
        let _ = write!(events, "data: {head},\"choices\":[{choice}],\"usage\":{usage}}}\n\n");
    }
    events.push_str(rest);
    format!("{:x}\r\n{events}\r\n", events.len())
}

/// The body of the next request; `None` when the client has closed.
async fn request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Vec<u8>>> {
    loop {
        if let Some((start, length)) = head_of(buffer)
            && buffer.len() >= start + length
        {
            let rest = buffer.split_off(start + length);
            let body = std::mem::replace(buffer, rest).split_off(start);
            return Ok(Some(body));
        }
        if buffer.len() > REQUEST_BYTES_MAX {
            return Err(std::io::Error::other("request too large"));
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Where the body begins and how long it is, once the whole head is there.
fn head_of(buffer: &[u8]) -> Option<(usize, usize)> {
    let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    Some((end + 4, length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)))
}

fn marked(body: &[u8]) -> &str {
    let text = std::str::from_utf8(body).unwrap_or_default();
    text.rfind("turn-").and_then(|at| text[at + 5..].split(';').next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_last_mark() {
        let body = format!(r#"{{"messages":["{}","x","{} hello"],"tools":[]}}"#, mark("1-1"), mark("1-2"));
        assert_eq!(marked(body.as_bytes()), "1-2");
        assert_eq!(marked(b"nothing"), "");
    }

    #[test]
    fn a_body_is_read_by_its_length() {
        let head = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(head_of(&[head, &b"hello"[..]].concat()), Some((head.len(), 5)));
        assert_eq!(head_of(b"POST / HTTP/1.1\r\n"), None);
    }
}
