//! Asking for model servers on this machine: one GET each, all at once, briefly. Runs in the command before the gateway
//! starts; the gateway itself opens no connections.

use crate::config::ConfigSnapshot;
use crate::config::model_choice::{LocalKind, LocalServer};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A server on this machine answers from memory; nobody should wait for one that is not there.
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);
/// Largest answer read; a list of a hundred models is a tenth of it.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The servers that answered with a list of models.
pub fn servers(snapshot: &ConfigSnapshot) -> Vec<LocalServer> {
    let threads: Vec<_> = LocalKind::ALL
        .into_iter()
        .filter_map(|kind| Some((kind, kind.port_in(snapshot)?)))
        .map(|(kind, port)| std::thread::spawn(move || ask(kind, port)))
        .collect();
    threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
}

fn ask(kind: LocalKind, port: u16) -> Option<LocalServer> {
    let answer = get(port, kind.list_path())?;
    Some(LocalServer { kind, port, models: kind.models(&answer)? })
}

/// HTTP/1.0, so that the end of the answer is the end of the connection or of the promised length.
fn get(port: u16, path: &str) -> Option<Value> {
    let end = Instant::now() + PROBE_TIMEOUT;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT).ok()?;
    stream.set_write_timeout(Some(PROBE_TIMEOUT)).ok()?;
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut chunk = [0_u8; 16 * 1024];
    while answer.len() < ANSWER_BYTES_MAX && !is_whole(&answer) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        stream.set_read_timeout(Some(left)).ok()?;
        match stream.read(&mut chunk).ok()? {
            0 => break,
            count => answer.extend_from_slice(chunk.get(..count)?),
        }
    }
    body(&answer)
}

/// Head and body, once the head is complete.
fn parts(answer: &[u8]) -> Option<(&str, &[u8])> {
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = answer.split_at_checked(at)?;
    Some((std::str::from_utf8(head).ok()?, rest.get(4..)?))
}

fn is_whole(answer: &[u8]) -> bool {
    let Some((head, body)) = parts(answer) else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() >= length)
}

fn body(answer: &[u8]) -> Option<Value> {
    let (head, body) = parts(answer)?;
    let status = head.split_whitespace().nth(1)?;
    (status == "200").then(|| serde_json::from_slice(body).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one connection with a fixed text and keeps it open when told so.
    fn server(answer: &'static str, keep_open: bool) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0_u8; 1024];
            let _ = stream.read(&mut request);
            stream.write_all(answer.as_bytes()).expect("written");
            if keep_open {
                let _ = stream.read(&mut request);
            }
        });
        port
    }

    #[test]
    fn answers_are_read_to_their_end_and_strangers_passed_over() {
        let list = "HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{\"models\":[{\"name\":\"a:1\"}]}";
        let found = ask(LocalKind::Ollama, server(list, true)).expect("found");
        assert_eq!(found.models, ["a:1"]);
        let unsized_list = "HTTP/1.0 200 OK\r\n\r\n{\"data\":[{\"id\":\"m\"}]}";
        assert_eq!(
            ask(LocalKind::LmStudio, server(unsized_list, false)).map(|found| found.models),
            Some(vec!["m".to_owned()])
        );
        for stranger in [
            "HTTP/1.0 404 Not Found\r\n\r\n{\"models\":[]}",
            "HTTP/1.0 200 OK\r\n\r\n<html>",
            "SSH-2.0-OpenSSH_9.2\r\n",
        ] {
            assert_eq!(ask(LocalKind::Ollama, server(stranger, false)), None, "{stranger}");
        }
    }

    #[test]
    fn a_server_that_says_nothing_costs_the_timeout_only() {
        let begin = Instant::now();
        assert_eq!(ask(LocalKind::LlamaCpp, server("", true)), None);
        assert!(begin.elapsed() < 10 * PROBE_TIMEOUT, "{:?}", begin.elapsed());
    }
}
