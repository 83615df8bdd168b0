//! `--probe`: asks a network whether an account could be used, before the account's running process is stopped for it.
//!
//! Standard input is one JSON document with the same parts as a `Welcome`; standard output
//! `{"ok": bool, "refused": bool, "error": …}`. `refused` means that the network or the configuration says no, and that
//! trying again is of no use. Messages are neither taken nor sent.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use proto::runtime::sys;
use proto::wire::handshake::{SecretMap, WorkerConfig, WorkerId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::account::Account;
use crate::channel;

/// The configuration file may have 2 MiB; `${NAME}` adds to it.
const INPUT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// A network that takes longer to say who we are cannot be judged now.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);
/// Answers of a network that will not change: the credentials are wrong.
const REFUSALS: [u64; 3] = [401, 403, 404];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    worker_id: WorkerId,
    config: WorkerConfig,
    secrets: SecretMap,
}

/// See the module head. Exit 0 when there is an answer.
pub fn main() -> ExitCode {
    // The account's token is on its way in: nobody may look.
    if sys::not_dumpable().is_err() {
        return ExitCode::FAILURE;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut text = Vec::new();
    let read = std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut text);
    let given = read.map_err(|error| error.to_string()).and_then(|_| {
        serde_json::from_slice::<Given>(&text).map_err(|error| format!("not a configuration: {error}"))
    });
    println!("{}", given.map_or_else(|error| refused(&error), |given| ask(&given)));
    ExitCode::SUCCESS
}

fn refused(error: &str) -> Value {
    json!({"ok": false, "refused": true, "error": error})
}

fn ask(given: &Given) -> Value {
    let opened = Account::new(&given.worker_id, &given.config, &given.secrets)
        .map_err(|error| error.to_string())
        .and_then(|account| {
            let kind = channel::all().into_iter().find(|kind| kind.name == account.channel);
            let kind = kind.ok_or_else(|| format!("no channel `{}` in this build", account.channel))?;
            (kind.open)(&account).map_err(|error| error.to_string())
        });
    let channel = match opened {
        Ok(channel) => channel,
        Err(error) => return refused(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return json!({"ok": false, "refused": false, "error": error.to_string()}),
    };
    let answer = runtime.block_on(async { tokio::time::timeout(ANSWER_WITHIN, channel.probe()).await });
    runtime.shutdown_background();
    match answer {
        Ok(answer) if answer["ok"] == true => json!({"ok": true, "refused": false}),
        Ok(answer) => {
            let refused = answer["status"].as_u64().is_some_and(|status| REFUSALS.contains(&status));
            json!({"ok": false, "refused": refused, "error": answer["error"]})
        }
        Err(_) => json!({"ok": false, "refused": false, "error": "the network did not answer in time"}),
    }
}
