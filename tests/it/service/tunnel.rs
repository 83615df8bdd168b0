//! A browser and a command line behind an SSH tunnel to a published port: they say `Host: localhost`, but for the gateway
//! they come from another address. Each reaches a chat with the token and one `devices approve`.

use harness::gateway::{TOKEN, TestGateway};
use harness::ws_client::{Device, WsClient, chat_text, cli_params};
use serde_json::{Value, json};
use std::process::Command;

/// Not of the loopback range. It exists only in the network that the test makes.
const PEER: &str = "10.203.0.1";
const INSIDE: &str = "service::tunnel::in_a_network_of_its_own";

/// Runs the test below in a network of its own, where the address exists and nothing else does.
#[test]
fn clients_behind_a_tunnel_need_the_token_and_one_approval() {
    let script = format!("ip link set lo up && ip address add {PEER}/32 dev lo && exec \"$@\"");
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--", "/bin/sh", "-c"]);
    let able = Command::new("unshare").args(["--net", "ip", "link"]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI may make networks and has the program ip");
        eprintln!("skipped: making a network needs root or user namespaces, and the program ip");
        return;
    }
    let own = std::env::current_exe().expect("the test knows its own path");
    // The executables are built before: in the new network there is nothing to fetch from.
    let bin = harness::executables::directory();
    let output = command
        .args([script.as_str(), "sh"])
        .arg(own)
        .args(["--ignored", "--exact", INSIDE, "--nocapture"])
        .env("OPENCLAW_TEST_BIN", bin)
        .output()
        .expect("unshare");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

/// Connects as this client through the tunnel, with the token and a device.
async fn connect(gateway: &TestGateway, device: &Device, browser: bool) -> Result<WsClient, Value> {
    let (address, host) = (format!("{PEER}:{}", gateway.port), format!("localhost:{}", gateway.port));
    let origin = format!("http://{host}");
    let mut client =
        WsClient::open_at(&address, &host, browser.then_some(origin.as_str())).await.expect("open");
    let mut params = cli_params(if browser { 4 } else { 3 });
    if browser {
        params["client"] =
            json!({"id": "openclaw-control-ui", "version": "1", "platform": "linux", "mode": "webchat"});
    }
    let nonce = client.nonce();
    params["device"] = device.proof(&params, &nonce, TOKEN);
    client.connect(params).await.map(|_| client)
}

fn devices(gateway: &TestGateway, words: &[&str]) -> Value {
    let words: Vec<&str> = ["devices"].into_iter().chain(words.iter().copied()).chain(["--json"]).collect();
    let output = gateway.cli(&words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one document")
}

#[tokio::test]
#[ignore = "is run in a network of its own by the test above"]
async fn in_a_network_of_its_own() {
    let gateway = TestGateway::builder().arg("--bind").arg("lan").start().await;
    for browser in [false, true] {
        let device = Device::new();
        // The page, which says that it is at localhost and has the token, is let in at once.
        let mut client = match connect(&gateway, &device, browser).await {
            Ok(client) => client,
            Err(refused) => {
                approve(&gateway, &device, &refused);
                connect(&gateway, &device, browser).await.expect("it is let in")
            }
        };
        let answer = client.chat("main", "hello through the tunnel").await;
        assert!(!chat_text(&answer).is_empty(), "{answer}");
        assert_eq!(answer["state"], "final", "{answer}");
    }
    steer_devices(&gateway).await;
}

fn approve(gateway: &TestGateway, device: &Device, refused: &Value) {
    assert_eq!(refused["details"]["code"], "PAIRING_REQUIRED", "{refused}");
    let listed = devices(gateway, &["list"]);
    assert_eq!(listed["pending"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed["pending"][0]["remoteIp"], PEER, "{listed}");
    let approved = devices(gateway, &["approve"]);
    assert_eq!(approved["device"]["deviceId"], device.id(), "{approved}");
}

/// The other verbs, on a device that is named by its first characters.
async fn steer_devices(gateway: &TestGateway) {
    let device = Device::new();
    let short = device.id()[..10].to_owned();
    connect(gateway, &device, false).await.err().expect("nobody knows it yet");
    let request = devices(gateway, &["list"])["pending"][0]["requestId"].as_str().expect("an id").to_owned();
    devices(gateway, &["reject", &request]);
    let nothing = gateway.cli(&["devices", "approve"]);
    assert_eq!(nothing.status.code(), Some(1));
    let text = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(text.starts_with("No device waits for approval"), "{text}");

    connect(gateway, &device, false).await.err().expect("it was rejected");
    devices(gateway, &["approve", "--latest"]);
    connect(gateway, &device, false).await.expect("it is let in");
    let rotated = devices(gateway, &["rotate", "--device", &short, "--scope", "operator.read"]);
    assert_eq!(
        (rotated["scopes"].clone(), rotated["deviceId"].clone()),
        (json!(["operator.read"]), json!(device.id()))
    );
    devices(gateway, &["revoke", "--device", &short, "--role", "operator"]);
    devices(gateway, &["remove", &short]);
    let again = connect(gateway, &device, false).await.err().expect("it is forgotten");
    assert_eq!(again["details"]["code"], "PAIRING_REQUIRED", "{again}");
    let unsure = gateway.cli(&["devices", "clear", "--pending"]);
    assert_eq!(unsure.status.code(), Some(1), "it asks for --yes");
    assert_eq!(devices(gateway, &["clear", "--pending", "--yes"])["cleared"], 1);
}
