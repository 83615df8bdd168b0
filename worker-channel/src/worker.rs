//! The composition root: takes the link, builds the one account, and passes on what the supervisor says.
//!
//! Ready means that the account is configured and its tasks run, not that its network answers: a network that is
//! down is a state of a healthy worker, which nobody must restart.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use proto::runtime::link::{LinkEvent, LinkHandle};
use proto::runtime::shutdown::Hooks;
use proto::runtime::worker_start::{self, EXIT_CONFIG, EXIT_TEMPORARY, Greeted, Started};
use proto::wire::Wire;
use proto::wire::agent::{RpcCall, RpcResult};
use proto::wire::channel::{ChannelPhase, ChannelToSup, Reconciled, SupToChannel};
use proto::wire::error::WireError;
use proto::wire::handshake::{WorkerId, WorkerKind};
use tokio::task::JoinHandle;

use crate::account::{Account, AccountError};
use crate::account_lock::{self, AccountLock, LockError};
use crate::channel::{self, Channel, Ended, Feed, OpenError};
use crate::inbound::{Inbox, Verdict};
use crate::media::MediaStore;
use crate::outbound::Outbound;
use crate::supervisor::Supervisor;

/// Somebody has to log in; a restart alone changes nothing.
pub const EXIT_NEEDS_LOGIN: u8 = 77;
/// How often a taken account is tried again: its owner may end at any time.
const LOCK_RETRY: Duration = Duration::from_secs(2);
/// After `Shutdown`: time for sends under way to get their answer, below the supervisor's 5 s.
const FINISH_SENDS: Duration = Duration::from_millis(2_500);
/// A probe of the network that takes longer is answered as failed.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

/// A panic in any task is the end of the process: it serves one account, and a task that is gone without a word would leave
/// its chat unanswered for ever. The next start goes on from the journal a moment later.
fn die_of_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        std::process::abort();
    }));
}

/// Runs the worker and maps its end to an exit code.
pub fn main() -> ExitCode {
    die_of_panics();
    let started = match worker_start::begin(WorkerKind::Channel, Hooks::default()) {
        Ok(started) => started,
        Err(error) => {
            eprintln!("openclaw-channel: {error}");
            return ExitCode::from(error.exit_code());
        }
    };
    // Before the first TLS connection; a second provider in the process would be refused.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::from(EXIT_TEMPORARY);
        }
    };
    let code = runtime.block_on(run(started));
    // Name look-ups run on threads that may hang: nobody waits for them.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(started: Started) -> u8 {
    let greeted = match started.greet().await {
        Ok(greeted) => greeted,
        Err(error) => {
            tracing::error!(%error, "not welcome");
            return error.exit_code();
        }
    };
    let supervisor = Supervisor::new(greeted.link.clone());
    let code = match open(&greeted) {
        Ok((account, channel)) => match greeted.ready("configured") {
            Ok(()) => serve(greeted, account, channel, supervisor).await,
            Err(error) => {
                tracing::error!(%error, "cannot say that we are ready");
                EXIT_TEMPORARY
            }
        },
        Err(error) => {
            tracing::error!(%error, "account cannot be opened");
            let (state, code) = error.meaning();
            supervisor.state(state, Some(error.to_string()), None);
            greeted.link.flush().await;
            code
        }
    };
    tracing::info!(code, "channel worker ends");
    code
}

#[derive(Debug, thiserror::Error)]
enum AccountOpenError {
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("no channel `{0}` in this build")]
    NoSuchChannel(String),
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl AccountOpenError {
    fn meaning(&self) -> (ChannelPhase, u8) {
        match self {
            Self::Open(OpenError::NeedsLogin(_)) => (ChannelPhase::LoginNeeded, EXIT_NEEDS_LOGIN),
            _ => (ChannelPhase::Down, EXIT_CONFIG),
        }
    }
}

fn open(greeted: &Greeted) -> Result<(Account, Arc<dyn Channel>), AccountOpenError> {
    let account =
        Account::new(&greeted.bootstrap.worker_id, &greeted.welcome.config, &greeted.welcome.secrets)?;
    let kind = channel::all().into_iter().find(|kind| kind.name == account.channel);
    let kind = kind.ok_or_else(|| AccountOpenError::NoSuchChannel(account.channel.clone()))?;
    let channel = (kind.open)(&account)?;
    Ok((account, channel))
}

/// The parts of a worker that runs.
struct Worker {
    worker_id: WorkerId,
    link: LinkHandle,
    inbox: Inbox,
    outbound: Outbound,
    channel: Arc<dyn Channel>,
    receiving: JoinHandle<Ended>,
}

/// What one message of the supervisor means for the whole process.
enum Next {
    GoOn,
    /// Finish what is under way, at most this long, then end.
    End(Duration),
}

async fn serve(greeted: Greeted, account: Account, channel: Arc<dyn Channel>, supervisor: Supervisor) -> u8 {
    let Greeted { link, mut events, welcome, bootstrap, mut stop, .. } = greeted;
    let media = MediaStore::new(&account.state_dir, &account.channel, &account.id, channel.media_bytes_max());
    let inbox = Inbox::new(supervisor.clone());
    let feed = Feed {
        inbox: inbox.clone(),
        supervisor: supervisor.clone(),
        media: media.clone(),
        cursors: welcome.cursors,
    };
    let receiving = tokio::spawn(receive(account, Arc::clone(&channel), feed));
    let outbound = Outbound::new(Arc::clone(&channel), supervisor.clone(), media);
    let worker_id = bootstrap.worker_id;
    let mut worker = Worker { worker_id, link, inbox, outbound, channel, receiving };
    loop {
        let next = tokio::select! {
            event = events.recv() => worker.event(event),
            () = stop.asked() => Next::End(FINISH_SENDS),
            ended = &mut worker.receiving => return worker.received(ended, &supervisor).await,
        };
        if let Next::End(limit) = next {
            return worker.end(limit, &mut events).await;
        }
    }
}

/// Takes the account's lock first: a second poller would take messages away from the first.
async fn receive(account: Account, channel: Arc<dyn Channel>, feed: Feed) -> Ended {
    let _lock = locked(&account, channel.as_ref(), &feed.supervisor).await;
    channel.receive(feed).await
}

async fn locked(account: &Account, channel: &dyn Channel, supervisor: &Supervisor) -> AccountLock {
    let folders = account_lock::host_folders(std::env::var("XDG_RUNTIME_DIR").ok().as_deref());
    let identity = channel.identity();
    let mut told: Option<String> = None;
    loop {
        match account_lock::take(&account.channel, &identity, &folders, &account.state_dir) {
            Ok(lock) => return lock,
            Err(error) => {
                let why = error.to_string();
                if told.as_ref() != Some(&why) {
                    match &error {
                        LockError::NoFolder { .. } => tracing::error!(%error, "account not locked"),
                        _ => tracing::warn!(%error, "another process has this account"),
                    }
                    supervisor.state(ChannelPhase::Down, Some(why.clone()), None);
                    told = Some(why);
                }
            }
        }
        tokio::time::sleep(LOCK_RETRY).await;
    }
}

impl Worker {
    fn event(&mut self, event: Option<LinkEvent>) -> Next {
        match event {
            Some(LinkEvent::Message { code, corr, payload, .. }) => {
                match SupToChannel::decode(code, &payload) {
                    Ok(message) => self.message(message, corr),
                    Err(error) => {
                        tracing::warn!(%error, "message not understood");
                        self.refuse(corr, WireError::invalid(error.to_string()));
                        Next::GoOn
                    }
                }
            }
            Some(LinkEvent::Closed { why }) => {
                tracing::info!(%why, "link closed");
                Next::End(Duration::ZERO)
            }
            None => Next::End(Duration::ZERO),
            Some(_) => Next::GoOn,
        }
    }

    fn message(&mut self, message: SupToChannel, corr: u64) -> Next {
        match message {
            SupToChannel::InboundAck(ack) => {
                for ext_id in ack.ext_ids {
                    self.inbox.settle(&ext_id, Verdict::Stored);
                }
            }
            SupToChannel::InboundNack(nack) => {
                tracing::debug!(ext_id = %nack.ext_id, why = %nack.why, "not stored");
                self.inbox.settle(&nack.ext_id, Verdict::NotNow { retry_ms: nack.retry_ms });
            }
            SupToChannel::Send(item) => self.outbound.send(item),
            SupToChannel::Typing(typing) => self.outbound.typing(typing),
            SupToChannel::DraftOpen(open) => self.outbound.open_draft(open),
            SupToChannel::DraftUpdate(update) => self.outbound.update_draft(update),
            SupToChannel::DraftDiscard(discard) => self.outbound.discard_draft(discard),
            SupToChannel::Rpc(call) => self.call(call, corr),
            // No network of this build can be asked whether something went out.
            SupToChannel::Reconcile(_) => {
                self.reply(corr, ChannelToSup::Reconciled(Reconciled { found: None }))
            }
            SupToChannel::ConfigDelta(delta) => {
                proto::runtime::telemetry::set_level_of(&delta.config.config_json);
                match Account::new(&self.worker_id, &delta.config, &delta.secrets) {
                    Ok(account) => self.channel.configure(&account),
                    Err(error) => tracing::error!(%error, "the new configuration is not used"),
                }
            }
            SupToChannel::Drain(drain) => return Next::End(Duration::from_millis(drain.deadline_ms)),
            SupToChannel::Shutdown(shutdown) => {
                tracing::info!(reason = %shutdown.reason, "asked to stop");
                return Next::End(FINISH_SENDS);
            }
        }
        self.link.vitals().set_inflight(self.outbound.busy().count());
        Next::GoOn
    }

    fn call(&self, call: RpcCall, corr: u64) {
        if call.method != "probe" {
            let error = WireError::invalid(format!(
                "unknown method: {} (a channel worker answers `probe`)",
                call.method
            ));
            return self
                .reply(corr, ChannelToSup::RpcResult(RpcResult { ok_json: None, error: Some(error) }));
        }
        let (channel, link) = (Arc::clone(&self.channel), self.link.clone());
        tokio::spawn(async move {
            let result = match tokio::time::timeout(PROBE_LIMIT, channel.probe()).await {
                Ok(value) => RpcResult { ok_json: Some(value.to_string()), error: None },
                Err(_) => {
                    let error = WireError::unavailable("the network did not answer the probe in time");
                    RpcResult { ok_json: None, error: Some(error) }
                }
            };
            if let Err(refused) = link.reply_when_room(corr, &ChannelToSup::RpcResult(result)).await {
                tracing::debug!(%refused, "probe not answered");
            }
        });
    }

    fn reply(&self, corr: u64, message: ChannelToSup) {
        if let Err(refused) = self.link.reply(corr, &message) {
            tracing::debug!(%refused, "request not answered");
        }
    }

    fn refuse(&self, corr: u64, error: WireError) {
        if corr != 0 {
            drop(self.link.reply_error(corr, error));
        }
    }

    /// Receiving ended by itself.
    async fn received(&self, ended: Result<Ended, tokio::task::JoinError>, supervisor: &Supervisor) -> u8 {
        match ended {
            Ok(Ended::NeedsLogin(why)) => {
                supervisor.state(ChannelPhase::LoginNeeded, Some(why), None);
                self.link.flush().await;
                EXIT_NEEDS_LOGIN
            }
            Ok(Ended::Orphaned) => 0,
            Err(error) => {
                tracing::error!(%error, "the receiving task died");
                EXIT_TEMPORARY
            }
        }
    }

    /// Stops taking messages at once; what was offered and not acknowledged comes again from the network.
    async fn end(&mut self, limit: Duration, events: &mut proto::runtime::link::LinkEvents) -> u8 {
        self.receiving.abort();
        let busy = self.outbound.busy();
        let finished = async {
            loop {
                tokio::select! {
                    () = busy.is_over() => return,
                    // Go-aheads for sends under way still arrive here.
                    event = events.recv() => if event.is_none() { return },
                }
            }
        };
        if tokio::time::timeout(limit, finished).await.is_err() && !limit.is_zero() {
            tracing::warn!(unfinished = busy.count(), "sends cut off by the stop");
        }
        if !limit.is_zero() {
            self.link.flush().await;
        }
        self.link.close();
        0
    }
}
