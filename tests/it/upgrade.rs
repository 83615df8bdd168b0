//! The gateway's program image is replaced under load: same process, same workers, same clients; nothing is lost, nothing
//! is done twice.

mod broken;
mod signals;
mod under_load;

use harness::gateway::TestGateway;
use harness::wait;
use harness::ws_client::WsClient;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// `system.info` of a gateway that has been replaced `times` times.
pub async fn replaced(gateway: &TestGateway, times: u64) -> Value {
    wait::until(&format!("replaced {times} times; the log:\n{}", gateway.log()), async || {
        let mut client = WsClient::open(gateway.port).await.ok()?;
        client.connect(harness::ws_client::cli_params(4)).await.ok()?;
        let info = client.call("system.info", json!({"gateway": true})).await.ok()?;
        (info["upgrades"].as_u64()? >= times).then_some(info)
    })
    .await
}

/// Asks for a restart in place and waits until it has happened.
pub async fn replace(gateway: &TestGateway, times: u64) -> Value {
    gateway.signal(Signal::SIGUSR1);
    replaced(gateway, times).await
}
