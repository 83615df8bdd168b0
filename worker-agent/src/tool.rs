//! What a model may do: the trait that every tool implements, the environment a call runs in and the list of all tools.
//!
//! One file a tool under `tool/`, one line a tool in [`all`]. `registry` finds, checks and runs a call; `policy` (pure) decides
//! which tools an agent is offered; `launcher` and `spawner` own every process that a tool starts.
//!
//! Not here: the loop that asks the model for calls, the transcript, and anything about a provider's tool format.

use std::{collections::BTreeMap, future::Future, path::PathBuf, pin::Pin, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

mod apply_patch;
pub mod catalog;
pub mod config;
pub mod confined;
mod edit;
pub mod environ;
mod exec;
mod find;
mod gateway;
mod grep;
pub mod launcher;
mod ls;
pub mod output;
mod paths;
pub mod policy;
mod process;
mod read;
pub mod registry;
pub mod running;
mod session_status;
pub mod spawner;
pub mod tree;
mod write;

use config::ToolSettings;
use running::Table;

/// A boxed future, as trait objects need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a call does to the world. Decides what a resumed run does with a call whose result was lost:
/// `Read` and `Idempotent` may simply run again, `Write` is reported to the model as "may have happened".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Changes nothing.
    Read,
    /// Changes something, but twice is the same as once.
    Idempotent,
    /// Changes something, and twice may differ from once.
    Write,
}

/// One call as the model wrote it; `args` are coerced to the schema by the registry before a tool sees them.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub args: Value,
}

/// One block of a tool result, in the shape of a transcript's content blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Block {
    Text {
        text: String,
    },
    /// `data` is base64 (standard alphabet, padded).
    Image {
        data: String,
        #[serde(rename = "mimeType")]
        mime_type: String,
    },
}

/// What a call ended with. Always complete: a failure is an outcome with `is_error`, never a missing result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolOutcome {
    pub content: Vec<Block>,
    /// For programs and the page (diff, exit code, session id); the model does not see it.
    pub details: Option<Value>,
    pub is_error: bool,
    /// One short line for people ("README.md", "ls -la"), shown by verbose mode and in tool events.
    pub meta: Option<String>,
}

impl ToolOutcome {
    /// A successful result of one text block.
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: vec![Block::Text { text: text.into() }], ..Self::default() }
    }

    /// A failed result of one text block.
    pub fn error(text: impl Into<String>) -> Self {
        Self { is_error: true, ..Self::text(text) }
    }

    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    pub fn with_meta(mut self, meta: impl Into<String>) -> Self {
        self.meta = Some(meta.into());
        self
    }

    /// All text blocks joined by newlines, as events and the demo model show them.
    pub fn joined_text(&self) -> String {
        let texts: Vec<&str> = self
            .content
            .iter()
            .filter_map(|block| match block {
                Block::Text { text } => Some(text.as_str()),
                Block::Image { .. } => None,
            })
            .collect();
        texts.join("\n")
    }
}

/// Why a call failed, in words for the model. The registry turns it into an outcome with `is_error`.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Missing or malformed parameters; the model can repair the call by itself.
    #[error("{0}. Supply correct parameters before retrying.")]
    Params(String),
    /// The tool ran and could not do what was asked (file missing, text not found).
    #[error("{0}")]
    Failed(String),
    /// The call is not allowed by configuration; the text names the key that decides.
    #[error("{0}")]
    Refused(String),
    /// The tool ran, failed and has an outcome worth keeping (output before a time-out).
    #[error("{}", .0.joined_text())]
    Outcome(Box<ToolOutcome>),
    #[error("Operation aborted")]
    Aborted,
}

impl ToolError {
    /// A failure in plain words.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// A parameter mistake in plain words, without the final full stop.
    pub fn params(text: impl Into<String>) -> Self {
        Self::Params(text.into())
    }
}

/// Partial results of a running call, for tool events of phase `update`. Lossy on purpose: when the
/// receiver is slow, an update is dropped; the result itself never goes this way. The default has no listener.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<mpsc::Sender<ToolOutcome>>);

impl Progress {
    pub fn new(sender: mpsc::Sender<ToolOutcome>) -> Self {
        Self(Some(sender))
    }

    /// Sends the state so far, or drops it.
    pub fn update(&self, so_far: ToolOutcome) {
        if let Some(sender) = &self.0 {
            let _dropped_when_full = sender.try_send(so_far);
        }
    }
}

/// Where `session_status` gets its card from; implemented by the owner of the sessions.
pub trait StatusSource: Send + Sync {
    /// The status card of `session_key` including a current-time line. `set_model`: select this model for the session
    /// first (`default` clears the selection). The error is a text for the model.
    fn card<'a>(
        &'a self,
        session_key: &'a str,
        set_model: Option<&'a str>,
    ) -> BoxFuture<'a, Result<String, String>>;
}

/// How the tool `gateway` reaches the supervisor; implemented by the owner of the turn, which names the run.
pub trait GatewaySource: Send + Sync {
    /// Has a method answered. The error is a text for the model.
    fn ask<'a>(&'a self, method: &'a str, params: Value) -> BoxFuture<'a, Result<Value, String>>;
}

/// Everything a call may touch. Made once per run by the owner of the turn.
#[derive(Clone)]
pub struct ToolEnv {
    /// Absolute; relative paths of a call start here.
    pub workspace: PathBuf,
    /// What `~` means; none: `~` is an error.
    pub home: Option<PathBuf>,
    pub session_key: String,
    pub status: Arc<dyn StatusSource>,
    pub gateway: Arc<dyn GatewaySource>,
    /// `tools.*` as meant, global and agent sections merged.
    pub settings: Arc<ToolSettings>,
    /// The whole environment of a tool's process, already scrubbed (no gateway or provider secrets).
    pub env: Arc<BTreeMap<String, String>>,
    /// Cancelled when the run is aborted or out of time.
    pub cancel: CancellationToken,
    /// The commands of this worker; one table a process.
    pub commands: Arc<Table>,
    /// Is `process` offered in this run? If not, `exec` never goes to the background.
    pub process_offered: bool,
}

/// One thing a model may do.
pub trait Tool: Send + Sync {
    /// The name on the wire; lower-case, stable for ever.
    fn name(&self) -> &'static str;
    /// For the model: what it does, its limits, when to use something else.
    fn description(&self) -> String;
    /// JSON schema of the parameters: an object, no unions (some providers refuse them).
    fn schema(&self) -> Value;
    /// Other names of parameters that models write, as (alias, parameter).
    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    /// What this call would do; only `process` and `exec` look at the arguments.
    fn effect(&self, args: &Value) -> Effect;
    /// Runs one call. Must end soon after `env.cancel`; dropping the future must leave no process behind.
    fn run<'a>(
        &'a self,
        call: ToolCall,
        env: &'a ToolEnv,
        progress: Progress,
    ) -> BoxFuture<'a, Result<ToolOutcome, ToolError>>;
}

/// Every tool of this build, in the order in which the prompt lists them.
pub fn all() -> Vec<Arc<dyn Tool>> {
    vec![
        Arc::new(read::Read),
        Arc::new(write::Write),
        Arc::new(edit::Edit),
        Arc::new(apply_patch::ApplyPatch),
        Arc::new(grep::Grep),
        Arc::new(find::Find),
        Arc::new(ls::Ls),
        Arc::new(exec::Exec),
        Arc::new(process::Process),
        Arc::new(gateway::Gateway),
        Arc::new(session_status::SessionStatus),
    ]
}
