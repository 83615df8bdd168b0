//! `channels.status`: every channel account of the configuration, with what its worker says and, on `probe`, what its
//! network says.
//!
//! Not here: pairing of senders ([`super::pairing`]), sending ([`super::send`]).

use super::Answer;
use super::params::Params;
use crate::config::{ConfigSnapshot, worker_config};
use crate::delivery::worker_of;
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::scheduler::shared::now_ms;
use futures_util::future::join_all;
use proto::view::{AccountView, DmPolicy};
use proto::wire::Wire;
use proto::wire::agent::RpcCall;
use proto::wire::channel::{ChannelPhase, ChannelToSup, SupToChannel};
use serde_json::{Map, Value, json};

/// Time for a probe when the caller names none.
const PROBE_MS: u64 = 10_000;
/// A worker gives its network 15 s; longer than this nobody waits for it.
const PROBE_MS_MAX: u64 = 20_000;
/// How messages arrive: every network of this build is asked for them.
const MODE: &str = "polling";

/// One account of the configuration.
struct Account {
    channel: String,
    id: String,
    /// It and its channel are switched on.
    enabled: bool,
    view: AccountView,
}

impl Account {
    /// `<channel>:<account>`.
    fn key(&self) -> String {
        format!("{}:{}", self.channel, self.id)
    }
}

/// What asking the network gave.
struct Probed {
    at_ms: i64,
    answer: Value,
    /// The worker itself did not answer.
    silent: bool,
}

/// `channels.status {probe?, timeoutMs?}`.
///
/// # Errors
/// Malformed params. A worker or network that does not answer is part of the answer.
pub async fn status(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("channels.status", &params);
    let probe = read.flag("probe")?.unwrap_or(false);
    let limit_ms = read.count("timeoutMs")?.unwrap_or(PROBE_MS).clamp(1, PROBE_MS_MAX);
    let config = gw.config.current();
    let accounts = accounts(&config);
    let probed: Vec<Option<Probed>> = if probe {
        let asked = accounts.iter().map(|account| ask(gw, account, limit_ms));
        join_all(asked).await.into_iter().map(Some).collect()
    } else {
        accounts.iter().map(|_| None).collect()
    };
    let warnings: Vec<String> = accounts
        .iter()
        .zip(&probed)
        .filter(|(_, probed)| probed.as_ref().is_some_and(|probed| probed.silent))
        .map(|(account, _)| format!("{} did not answer the probe within {limit_ms} ms", account.key()))
        .collect();
    let rows: Vec<(Account, Value)> = accounts
        .into_iter()
        .zip(probed)
        .map(|(account, probed)| {
            let row = row(gw, &config, &account, probed);
            (account, row)
        })
        .collect();
    let mut answer = document(&config, &rows);
    if !warnings.is_empty() {
        answer["partial"] = true.into();
        answer["warnings"] = json!(warnings);
    }
    Ok(answer.into())
}

fn accounts(config: &ConfigSnapshot) -> Vec<Account> {
    let channels = config.view.channels.iter();
    let all = channels.flat_map(|(channel, view)| {
        view.accounts.iter().map(|(id, account)| Account {
            channel: channel.clone(),
            id: id.clone(),
            enabled: view.enabled && account.enabled,
            view: account.clone(),
        })
    });
    all.collect()
}

/// Asks one network through its worker.
async fn ask(gw: &Handles, account: &Account, limit_ms: u64) -> Probed {
    let began = std::time::Instant::now();
    let call =
        RpcCall { method: "probe".to_owned(), params_json: "{}".to_owned(), protocol: 4, client: None };
    let asked = gw.workers.request(&worker_of(&account.key()), SupToChannel::Rpc(call), limit_ms).await;
    let failed = |error: String| {
        let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        json!({"ok": false, "status": null, "error": error, "elapsedMs": elapsed})
    };
    let (answer, silent) = match asked.map(|(code, payload)| ChannelToSup::decode(code, &payload)) {
        Ok(Ok(ChannelToSup::RpcResult(result))) => match (result.error, result.ok_json) {
            (Some(error), _) => (failed(error.message), false),
            (None, text) => {
                let answer = serde_json::from_str(text.as_deref().unwrap_or("null"));
                (answer.unwrap_or_else(|error| failed(format!("malformed probe: {error}"))), false)
            }
        },
        Ok(_) => (failed("the channel's worker answered with something else".to_owned()), false),
        Err(refusal) => {
            let silent = matches!(refusal, crate::worker::Refusal::Request { .. });
            (failed(refusal.to_string()), silent)
        }
    };
    Probed { at_ms: now_ms(), answer, silent }
}

/// The account's snapshot: only what is known.
fn row(gw: &Handles, config: &ConfigSnapshot, account: &Account, probed: Option<Probed>) -> Value {
    let key = account.key();
    let (facts, worker) = (gw.channels.get(&key), gw.workers.status_of(&worker_of(&key)));
    let running = worker.as_ref().is_some_and(|worker| worker.state.is_up());
    let up = facts.state.as_ref().is_some_and(|state| state.state == ChannelPhase::Up);
    let token_source = token_source(config, account);
    let said = facts.state.as_ref().filter(|_| !up).and_then(|state| state.why.clone());
    let error = if running { said } else { worker.as_ref().and_then(|worker| worker.why.clone()).or(said) };
    let since = worker.as_ref().map(|worker| worker.since_ms);
    let mut row = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            row.insert(name.to_owned(), value);
        }
    };
    put("accountId", json!(account.id));
    put("name", json!(account.view.name));
    put("enabled", json!(account.enabled));
    put("configured", json!(token_source != "none"));
    put("running", json!(running));
    put("connected", json!(running && up));
    put("reconnectAttempts", json!(worker.as_ref().map(|worker| worker.restarts)));
    put("lastConnectedAt", json!(facts.connected_ms));
    put("lastStartAt", json!(since.filter(|_| running)));
    put("lastStopAt", json!(since.filter(|_| !running)));
    put("lastInboundAt", json!(facts.last_inbound_ms));
    put("lastOutboundAt", json!(facts.last_outbound_ms));
    put("lastError", json!(error));
    put("mode", json!(MODE));
    put("dmPolicy", json!(policy(account.view.dm_policy)));
    put("allowFrom", json!(account.view.allow_from));
    put("tokenSource", json!(token_source));
    put("identity", json!(facts.state.and_then(|state| state.identity)));
    if let Some(probed) = probed {
        put("lastProbeAt", json!(probed.at_ms));
        put("probe", probed.answer);
    }
    Value::Object(row)
}

/// Where the account's credentials come from: `config`, `tokenFile`, `env` or `none`.
fn token_source(config: &ConfigSnapshot, account: &Account) -> &'static str {
    let (section, secrets) = worker_config(config, &worker_of(&account.key()));
    let section: Value = serde_json::from_str(&section).unwrap_or_default();
    let written = |key: &str| {
        let channel = &config.config["channels"][&account.channel];
        let own = &channel["accounts"][&account.id];
        !own[key].is_null() || !channel[key].is_null()
    };
    let secret =
        ["botToken", "token", "appToken", "userToken"].into_iter().find(|key| secrets.0.contains_key(*key));
    match secret {
        Some(key) if written(key) => "config",
        Some(_) => "env",
        None if section["channels"][&account.channel]["tokenFile"].is_string() => "tokenFile",
        None => "none",
    }
}

fn policy(policy: DmPolicy) -> &'static str {
    match policy {
        DmPolicy::Pairing => "pairing",
        DmPolicy::Allowlist => "allowlist",
        DmPolicy::Open => "open",
        DmPolicy::Disabled => "disabled",
    }
}

/// Fields of the default account that stand for the channel.
const SUMMARY: [&str; 9] = [
    "configured",
    "tokenSource",
    "running",
    "connected",
    "mode",
    "lastStartAt",
    "lastStopAt",
    "lastError",
    "lastProbeAt",
];

fn document(config: &ConfigSnapshot, rows: &[(Account, Value)]) -> Value {
    let (mut order, mut meta) = (Vec::new(), Vec::new());
    let mut maps: [Map<String, Value>; 5] = Default::default();
    let [labels, details, channels, accounts, defaults] = &mut maps;
    for (channel, view) in &config.view.channels {
        let label = title(channel);
        let own = || rows.iter().filter(|(account, _)| account.channel == *channel);
        let main = own().find(|(account, _)| account.id == view.default_account).map(|(_, row)| row);
        let mut summary: Map<String, Value> =
            SUMMARY.iter().filter_map(|key| Some(((*key).to_owned(), main?.get(*key)?.clone()))).collect();
        if let Some(probe) = main.and_then(|row| row.get("probe")) {
            summary.insert("probe".to_owned(), probe.clone());
        }
        order.push(json!(channel));
        meta.push(json!({"id": channel, "label": label, "detailLabel": label}));
        labels.insert(channel.clone(), json!(label));
        details.insert(channel.clone(), json!(label));
        channels.insert(channel.clone(), Value::Object(summary));
        accounts.insert(channel.clone(), own().map(|(_, row)| row.clone()).collect());
        defaults.insert(channel.clone(), json!(view.default_account));
    }
    let [labels, details, channels, accounts, defaults] = maps;
    json!({
        "ts": now_ms(), "channelOrder": order, "channelLabels": labels, "channelDetailLabels": details,
        "channelSystemImages": {}, "channelMeta": meta, "channels": channels, "channelAccounts": accounts,
        "channelDefaultAccountId": defaults,
    })
}

/// `telegram` → `Telegram`.
fn title(channel: &str) -> String {
    let mut letters = channel.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
