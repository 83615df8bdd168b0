//! A WebSocket client that speaks wire protocol 3 and 4, with and without a device identity.

use crate::gateway::TOKEN;
use crate::wait::PATIENCE;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// An open connection. Frames that a waiting call passes over are kept in order in `events`.
pub struct WsClient {
    socket: Socket,
    pub challenge: Value,
    pub hello: Value,
    /// Events in the order of arrival that no call has consumed.
    pub events: VecDeque<Value>,
    /// `seq` of each event, in the order of arrival.
    pub seen: Vec<u64>,
    responses: VecDeque<Value>,
    next_id: u32,
}

/// How the connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub code: u16,
    pub reason: String,
}

/// An Ed25519 device identity.
pub struct Device {
    key: SigningKey,
}

impl Device {
    pub fn new() -> Self {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).expect("randomness");
        Self { key: SigningKey::from_bytes(&seed) }
    }
    pub fn id(&self) -> String {
        Sha256::digest(self.key.verifying_key().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `device` of the connect params, signed over the version 3 payload.
    pub fn proof(&self, params: &Value, nonce: &str, token: &str) -> Value {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_millis();
        let text = |path: &str| params.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let scopes: Vec<&str> =
            params["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let role = params["role"].as_str().unwrap_or("operator");
        let payload = [
            "v3".to_owned(),
            self.id(),
            text("/client/id"),
            text("/client/mode"),
            role.to_owned(),
            scopes.join(","),
            now.to_string(),
            token.to_owned(),
            nonce.to_owned(),
            text("/client/platform").to_ascii_lowercase(),
            text("/client/deviceFamily").to_ascii_lowercase(),
        ]
        .join("|");
        let signature = self.key.sign(payload.as_bytes());
        json!({
            "id": self.id(),
            "publicKey": URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes()),
            "signature": URL_SAFE_NO_PAD.encode(signature.to_bytes()),
            "signedAt": now as u64,
            "nonce": nonce,
        })
    }
}

impl Default for Device {
    fn default() -> Self {
        Self::new()
    }
}

/// Connect params of a command line client of this protocol.
pub fn cli_params(protocol: u64) -> Value {
    json!({
        "minProtocol": protocol, "maxProtocol": protocol,
        "client": {"id": "cli", "version": "1.0.0", "platform": "linux", "mode": "cli"},
        "role": "operator",
        "scopes": ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"],
        "caps": [],
        "auth": {"token": TOKEN},
    })
}

impl WsClient {
    /// Opens the socket and reads the challenge; `connect` is up to the caller.
    pub async fn open(port: u16) -> anyhow::Result<Self> {
        Self::open_from(port, None).await
    }

    /// The same from a page of this origin.
    pub async fn open_from(port: u16, origin: Option<&str>) -> anyhow::Result<Self> {
        let host = format!("127.0.0.1:{port}");
        Self::open_at(&host, &host, origin).await
    }

    /// The same at another address than the one that is asked for, as through a tunnel.
    pub async fn open_at(address: &str, host: &str, origin: Option<&str>) -> anyhow::Result<Self> {
        let mut request = format!("ws://{host}/").into_client_request()?;
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse()?);
        }
        let stream = MaybeTlsStream::Plain(TcpStream::connect(address).await?);
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        let mut client = Self::of(socket);
        client.challenge = client.event("connect.challenge").await;
        Ok(client)
    }

    fn of(socket: Socket) -> Self {
        Self {
            socket,
            challenge: Value::Null,
            hello: Value::Null,
            events: VecDeque::new(),
            seen: Vec::new(),
            responses: VecDeque::new(),
            next_id: 0,
        }
    }

    /// A ready command line client of this protocol (3 sends a device, 4 does not).
    pub async fn cli(port: u16, protocol: u64) -> Self {
        let mut params = cli_params(protocol);
        let mut client = Self::open(port).await.expect("the gateway answers");
        if protocol == 3 {
            let nonce = client.nonce();
            params["device"] = Device::new().proof(&params, &nonce, TOKEN);
        }
        client.connect(params).await.expect("hello");
        client
    }

    /// A ready client that wants tool events.
    pub async fn with_tools(port: u16) -> Self {
        let mut params = cli_params(4);
        params["caps"] = json!(["tool-events"]);
        let mut client = Self::open(port).await.expect("the gateway answers");
        client.connect(params).await.expect("hello");
        client
    }

    pub fn nonce(&self) -> String {
        self.challenge["payload"]["nonce"].as_str().unwrap_or_default().to_owned()
    }

    /// Sends `connect`; `Err` holds the error of the answer.
    pub async fn connect(&mut self, params: Value) -> Result<Value, Value> {
        let hello = self.call("connect", params).await?;
        self.hello = hello.clone();
        Ok(hello)
    }

    pub async fn send_raw(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("the socket is open");
    }

    /// Sends text that the gateway may cut off in the middle.
    pub async fn send_unwelcome(&mut self, text: String) {
        let _refused = self.socket.send(Message::text(text)).await;
    }

    /// Says goodbye properly; gives the gateway's goodbye.
    pub async fn close(&mut self) -> Closed {
        let _sent = self.socket.close(None).await;
        self.closed().await
    }

    /// Sends a request, does not wait. Gives its id.
    pub async fn send(&mut self, method: &str, params: Value) -> String {
        self.next_id += 1;
        let id = format!("t{}", self.next_id);
        let frame = json!({"type": "req", "id": id, "method": method, "params": params});
        self.send_raw(&frame.to_string()).await;
        id
    }

    /// One request and its first answer.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.send(method, params).await;
        self.response(&id).await
    }

    /// The next answer to this id: payload or error.
    pub async fn response(&mut self, id: &str) -> Result<Value, Value> {
        self.response_unless_closed(id)
            .await
            .unwrap_or_else(|closed| panic!("connection closed while waiting for {id}: {closed:?}"))
    }

    /// The same where a close is an outcome.
    pub async fn response_unless_closed(&mut self, id: &str) -> Result<Result<Value, Value>, Closed> {
        loop {
            if let Some(at) = self.responses.iter().position(|frame| frame["id"] == id) {
                let frame = self.responses.remove(at).expect("just found");
                return Ok(if frame["ok"] == true {
                    Ok(frame["payload"].clone())
                } else {
                    Err(frame["error"].clone())
                });
            }
            self.pump().await?;
        }
    }

    /// Answers that nobody asked for yet.
    pub fn responses_left(&self) -> usize {
        self.responses.len()
    }

    /// A request as the bytes of one frame, to be written in pieces by [`WsClient::write_bytes`].
    pub fn request_bytes(&mut self, method: &str) -> (String, Vec<u8>) {
        self.next_id += 1;
        let id = format!("t{}", self.next_id);
        let text = json!({"type": "req", "id": id, "method": method}).to_string();
        let length = u8::try_from(text.len()).ok().filter(|n| *n < 126).expect("a short request");
        // Masked with zeros: final frame, text.
        let mut bytes = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        bytes.extend(text.as_bytes());
        (id, bytes)
    }

    /// Writes to the connection below the WebSocket. Nothing else may be sent between the pieces of a frame.
    pub async fn write_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let socket = self.socket.get_mut();
        socket.write_all(bytes).await?;
        socket.flush().await
    }

    /// Has the kernel hold no more than about this for us.
    pub fn set_receive_bytes(&self, bytes: usize) {
        if let MaybeTlsStream::Plain(socket) = self.socket.get_ref() {
            rustix::net::sockopt::set_socket_recv_buffer_size(socket, bytes).expect("a plain socket");
        }
    }

    /// As [`WsClient::cli`], never with a device, where a refusal or a close is an outcome.
    pub async fn try_cli(port: u16, protocol: u64) -> anyhow::Result<Self> {
        let request = format!("ws://127.0.0.1:{port}/").into_client_request()?;
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        let mut client = Self::of(socket);
        let closed = |closed| anyhow::anyhow!("closed: {closed:?}");
        client.pump().await.map_err(closed)?;
        client.challenge = client.events.pop_front().unwrap_or_default();
        let id = client.send("connect", cli_params(protocol)).await;
        let hello = client.response_unless_closed(&id).await.map_err(closed)?;
        client.hello = hello.map_err(|error| anyhow::anyhow!("refused: {error}"))?;
        Ok(client)
    }

    /// The next event of this name; earlier ones of other names stay in `events`.
    pub async fn event(&mut self, name: &str) -> Value {
        self.event_where(name, |_| true).await
    }

    pub async fn event_where(&mut self, name: &str, matches: impl Fn(&Value) -> bool) -> Value {
        loop {
            let found =
                self.events.iter().position(|event| event["event"] == name && matches(&event["payload"]));
            if let Some(at) = found {
                return self.events.remove(at).expect("just found");
            }
            if let Err(closed) = self.pump().await {
                panic!("connection closed while waiting for {name}: {closed:?}");
            }
        }
    }

    /// Reads one frame into the queues.
    pub async fn pump(&mut self) -> Result<(), Closed> {
        let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a frame in time");
        match frame {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
                if frame["type"] == "event" {
                    self.seen.extend(frame["seq"].as_u64());
                    self.events.push_back(frame);
                } else {
                    self.responses.push_back(frame);
                }
                Ok(())
            }
            Some(Ok(Message::Close(frame))) => {
                Err(frame.map_or(Closed { code: 1005, reason: String::new() }, |frame| Closed {
                    code: frame.code.into(),
                    reason: frame.reason.to_string(),
                }))
            }
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err(Closed { code: 1006, reason: String::new() }),
        }
    }

    /// Reads until the gateway closes.
    pub async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.pump().await {
                return closed;
            }
        }
    }

    /// Sends a chat message and waits for its terminal `chat` event; gives the payload.
    pub async fn chat(&mut self, session: &str, text: &str) -> Value {
        let key = uuid::Uuid::new_v4().to_string();
        let params = json!({"sessionKey": session, "message": text, "idempotencyKey": key});
        self.call("chat.send", params).await.expect("chat.send is accepted");
        self.chat_end(&key).await
    }

    pub async fn chat_end(&mut self, run_id: &str) -> Value {
        let ended = self
            .event_where("chat", |payload| {
                payload["runId"] == run_id
                    && matches!(payload["state"].as_str(), Some("final" | "aborted" | "error"))
            })
            .await;
        ended["payload"].clone()
    }
}

/// The text of a `chat` payload.
pub fn chat_text(payload: &Value) -> String {
    let blocks = payload["message"]["content"].as_array().cloned().unwrap_or_default();
    blocks.iter().filter_map(|block| block["text"].as_str()).collect()
}
