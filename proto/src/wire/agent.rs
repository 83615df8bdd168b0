//! The conversation with an agent worker: runs, their events, and the methods that the worker owns.

use super::{Id, WireError, channel::MediaRef};
use serde::{Deserialize, Serialize};

/// Starts one run. The worker executes one run per session at a time; the queue is the supervisor's.
/// Sent again with a higher `attempt` after the worker died; the transcript decides where to go on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    pub run_id: Id,
    /// The client's idempotency key: the `runId` that clients see.
    pub client_run_id: String,
    pub session_key: String,
    pub agent_id: String,
    /// 1 for the first start.
    pub attempt: u32,
    /// How many of the earlier attempts ended by an interruption.
    #[serde(default)]
    pub resumes: u32,
    pub inputs: Vec<RunInput>,
    #[serde(default)]
    pub overrides: RunOverrides,
    pub origin: Origin,
    /// Active time that is left for this run, attempts and resumes together. 0 = no limit.
    pub active_ms_left: u64,
    /// Parts that the journal already holds for this run: numbering goes on from here.
    #[serde(default)]
    pub parts_done: u32,
    /// Texts of those parts, for the note "already said to the user".
    #[serde(default)]
    pub texts_done: Vec<String>,
    #[serde(default)]
    pub delivery: DeliveryPlan,
    /// Lines that go in front of the prompt (`System: …`), taken from the session's event queue.
    #[serde(default)]
    pub system_events: Vec<String>,
}

/// One accepted message. Several of them make one run in queue mode `collect`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunInput {
    /// Journal sequence of the inbound row.
    pub inbound_seq: i64,
    /// What the model reads.
    pub text: String,
    /// What the command parser reads (no envelope, no timestamp prefix).
    pub raw: String,
    #[serde(default)]
    pub attachments: Vec<MediaRef>,
    /// Milliseconds since the epoch, sender's clock where the network tells it.
    pub ts_ms: i64,
    #[serde(default)]
    pub idempotency_key: Option<String>,
    #[serde(default)]
    pub sender: Option<Sender>,
    /// Untrusted context (reply quote, forwarded-from, group history) as a JSON object; goes into the user message.
    #[serde(default)]
    pub context_json: Option<String>,
    /// The sender may use commands.
    #[serde(default)]
    pub authorised: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sender {
    pub id: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub is_bot: bool,
}

/// Settings of this run only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunOverrides {
    #[serde(default)]
    pub thinking: Option<String>,
    #[serde(default)]
    pub provider: Option<String>,
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    pub extra_system_prompt: Option<String>,
    /// `full`, `minimal` or `none`.
    #[serde(default)]
    pub prompt_mode: Option<String>,
    /// An explicit transcript id.
    #[serde(default)]
    pub session_id: Option<String>,
    /// Metadata of the `agent` method that is stored in the session row (label, spawnedBy, groupId, …), JSON object.
    #[serde(default)]
    pub session_meta_json: Option<String>,
    #[serde(default)]
    pub temperature: Option<f64>,
    #[serde(default)]
    pub max_tokens: Option<u32>,
}

/// Where a run comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OriginKind {
    /// Method `agent`.
    #[default]
    Agent,
    /// Method `chat.send`.
    Chat,
    /// A chat network.
    Channel,
    /// OpenAI-style HTTP.
    Http,
    /// Wake-ups, restart notes.
    System,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub kind: OriginKind,
    /// `webchat`, `telegram`, …
    pub channel: String,
    #[serde(default)]
    pub account: Option<String>,
    #[serde(default)]
    pub chat: Option<String>,
    #[serde(default)]
    pub thread: Option<String>,
    /// `direct`, `group` or `channel`.
    #[serde(default)]
    pub chat_type: Option<String>,
    /// Group title, for the prompt.
    #[serde(default)]
    pub subject: Option<String>,
    /// The sender is an owner of this gateway.
    #[serde(default)]
    pub owner: bool,
    #[serde(default)]
    pub was_mentioned: bool,
    /// Client that asked (`cli`, `openclaw-control-ui`, …).
    #[serde(default)]
    pub client: Option<String>,
}

/// What the supervisor does with text while the run goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeliveryPlan {
    /// Each finished block becomes an outbox row of its own.
    #[serde(default)]
    pub blocks: bool,
    /// Send the final reply to the origin's chat.
    #[serde(default)]
    pub deliver: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steer {
    pub run_id: Id,
    pub input: RunInput,
}

/// Answer to `Steer`: false when the run no longer takes input; the supervisor then queues it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Steered {
    pub taken: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AbortRun {
    pub run_id: Id,
    /// `rpc`, `stop-command`, `timeout`, `shutdown`.
    pub why: String,
}

/// The journal holds the outcome of the run: the worker forgets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinalAck {
    pub run_id: Id,
}

/// A method that this worker owns; answered by `RpcResult`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RpcCall {
    pub method: String,
    /// JSON object.
    pub params_json: String,
    /// 3 or 4: the wire protocol whose result shape the caller expects.
    pub protocol: u8,
    /// Client id and mode, where the answer depends on them.
    #[serde(default)]
    pub client: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RpcResult {
    /// JSON value on success.
    #[serde(default)]
    pub ok_json: Option<String>,
    #[serde(default)]
    pub error: Option<WireError>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigDelta {
    pub config: super::handshake::WorkerConfig,
    #[serde(default)]
    pub secrets: super::handshake::SecretMap,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    pub deadline_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shutdown {
    /// `stop`, `restart`, `config`, `idle`.
    pub reason: String,
}

/// The turn-start record is on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    pub run_id: Id,
    pub attempt: u32,
    pub session_id: String,
    pub started_ms: i64,
}

/// Progress of a run; resets its idle clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStep {
    pub run_id: Id,
    pub step: u32,
    /// `model`, `first`, `answer`, `refused`, `stopped`, `tool`, `result`, `compact`, `retry`.
    pub kind: String,
    /// Words, or a JSON object of facts.
    #[serde(default)]
    pub detail: String,
}

/// A piece of streamed text. Waiting pieces of one run and kind are merged by concatenation, so none is lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    pub run_id: Id,
    pub attempt: u32,
    /// Which assistant message of the run this belongs to, from 0.
    pub message: u32,
    pub kind: DeltaKind,
    pub text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeltaKind {
    #[default]
    Text,
    Thinking,
}

/// An event of a run that is not text: `stream` and `data` as clients see them (wire protocol, event `agent`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEvent {
    pub run_id: Id,
    pub attempt: u32,
    /// `lifecycle`, `tool`, `compaction`, `usage`; `discard` (`{message}`: its text so far is void) goes no further.
    pub stream: String,
    /// JSON object.
    pub data_json: String,
    pub at_ms: i64,
}

/// Stands in [`OutPart::reply_to`] for the message that started the run: the worker does not know its id.
pub const REPLY_TO_CURRENT: &str = "current";

/// One part of a reply on its way out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutPart {
    /// Numbered from 0 over blocks, message tool and final of one run.
    pub part: u32,
    pub text: String,
    #[serde(default)]
    pub media: Vec<MediaRef>,
    /// Reply to this message of the network; [`REPLY_TO_CURRENT`] for the one that started the run.
    #[serde(default)]
    pub reply_to: Option<String>,
    /// Another destination than the run's origin: `channel`, `account`, `chat`, `thread`.
    #[serde(default)]
    pub to: Option<Target>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    pub channel: String,
    #[serde(default)]
    pub account: String,
    pub chat: String,
    #[serde(default)]
    pub thread: Option<String>,
}

/// A block that is complete and may be delivered before the run ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    pub run_id: Id,
    pub out: OutPart,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    #[default]
    Ok,
    Error,
    Aborted,
    Timeout,
}

/// The end of a run. The transcript's final record is on disk before this is sent; sent again until `FinalAck`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFinal {
    pub run_id: Id,
    pub attempt: u32,
    pub status: RunStatus,
    /// Readable reason when `status` is not `ok`.
    #[serde(default)]
    pub error: Option<RunError>,
    /// `stop`, `length`, `aborted`, `rpc`, `timeout`, …
    #[serde(default)]
    pub stop_reason: Option<String>,
    /// What is left to deliver (block parts that went before are not repeated).
    #[serde(default)]
    pub parts: Vec<OutPart>,
    /// The visible answer as clients show it; empty for a silent run.
    #[serde(default)]
    pub text: String,
    /// The run was answered by a chat command, without a model.
    #[serde(default)]
    pub command: bool,
    #[serde(default)]
    pub usage: Usage,
    /// `result.meta` of method `agent` (durationMs, agentMeta{sessionId, provider, model, usage}), JSON object.
    #[serde(default)]
    pub meta_json: String,
    pub started_ms: i64,
    pub ended_ms: i64,
    #[serde(default)]
    pub session: Option<SessionRow>,
    /// Transcript entry id of the final message.
    #[serde(default)]
    pub message_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunError {
    /// `auth`, `billing`, `rate_limit`, `timeout`, `overflow`, `network`, `format`, `tool`, `internal`, …
    pub kind: String,
    pub message: String,
    #[serde(default)]
    pub provider: Option<String>,
    #[serde(default)]
    pub model: Option<String>,
}

/// Tokens and cost of a run, summed over its model calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    #[serde(default)]
    pub input: u64,
    #[serde(default)]
    pub output: u64,
    #[serde(default)]
    pub cache_read: u64,
    #[serde(default)]
    pub cache_write: u64,
    #[serde(default)]
    pub total: u64,
    /// US dollars, in millionths.
    #[serde(default)]
    pub cost_micros: u64,
    #[serde(default)]
    pub provider: String,
    #[serde(default)]
    pub model: String,
}

/// One row of the session index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    pub key: String,
    pub agent_id: String,
    pub session_id: String,
    pub updated_ms: i64,
    /// The whole entry as it stands in `sessions.json`, JSON object.
    pub entry_json: String,
    #[serde(default)]
    pub deleted: bool,
    /// First words of the conversation, for lists that ask for a derived title.
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub last_message: Option<String>,
}

/// `sessions.json` changed. Sent after the file is on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionChanged {
    pub row: SessionRow,
    /// `patch`, `reset`, `new`, `delete`, `turn`, `inject`, `compact`.
    pub reason: String,
}

/// A message was added to a transcript outside of a run's own events (`chat.inject`, command replies).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageAppended {
    pub session_key: String,
    pub message_id: String,
    /// The transcript message, JSON object.
    pub message_json: String,
    /// `inject` → a chat `final` with runId `inject-<id>` goes to the clients.
    pub reason: String,
}

/// The agent's tool `gateway` asks the supervisor; answered by [`SupToAgent::Asked`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskGateway {
    /// The run whose model called the tool. The supervisor looks up by itself on whose behalf it runs.
    pub run_id: Id,
    /// `gateway.restart`, `config.get`, `config.schema`, `config.patch`, `config.apply`, `update.run`.
    pub method: String,
    /// JSON object.
    pub params_json: String,
}

wire_enum! {
    /// Supervisor → agent worker.
    pub enum SupToAgent {
        0x0302 Durable Drain(Drain),
        0x0303 Durable Shutdown(Shutdown),
        0x0310 Durable StartRun(RunSpec),
        /// Request; answered by `Steered`.
        0x0311 Durable Steer(Steer),
        0x0312 Durable AbortRun(AbortRun),
        0x0313 Durable FinalAck(FinalAck),
        /// Request; answered by `RpcResult`.
        0x0320 Durable Rpc(RpcCall),
        0x0330 Durable ConfigDelta(ConfigDelta),
        /// Answer to `AskGateway`.
        0x0340 Durable Asked(RpcResult),
    }
}

wire_enum! {
    /// Agent worker → supervisor.
    pub enum AgentToSup {
        0x0410 Durable RunStarted(RunStarted),
        0x0411 Durable RunStep(RunStep),
        0x0412 Lossy Delta(Delta),
        0x0413 Durable Block(Block),
        0x0414 Durable RunFinal(RunFinal),
        0x0415 Durable RunEvent(RunEvent),
        0x0416 Durable SessionChanged(SessionChanged),
        0x0417 Durable MessageAppended(MessageAppended),
        0x0419 Durable Steered(Steered),
        0x0430 Durable RpcResult(RpcResult),
        /// Request; answered by `Asked`.
        0x0440 Durable AskGateway(AskGateway),
    }
}
