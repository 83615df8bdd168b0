//! The network and the models: answers that are lost, late, refused; messages that come again; clients that flood.

use super::{PATIENCE, plan, with};
use crate::case::Case;
use futures_util::future::join_all;
use harness::gateway::TOKEN;
use harness::matrix::Class;
use harness::matrix::load;
use harness::matrix::scene::Scene;
use harness::model_server::Fault as Model;
use harness::telegram_server::Fault;
use harness::{http, wait};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![redelivery(), lost_answers(), floods()];
    for (name, method, fault) in [
        ("rate limit", "*", Fault::RateLimit(1)),
        ("server error", "*", Fault::Refuse(500, "Internal Server Error".into())),
        ("bad gateway", "sendMessage", Fault::Refuse(502, "Bad Gateway".into())),
        ("cut before", "*", Fault::CutBefore),
        ("edit cut after", "editMessageText", Fault::CutAfter),
        ("send cut after", "sendMessage", Fault::CutAfter),
        ("poll cut after", "getUpdates", Fault::CutAfter),
        ("slow", "*", Fault::Slow(1_500)),
        ("edit hangs after", "editMessageText", Fault::HangAfter),
    ] {
        cases.push(broken_network(name, method, fault));
    }
    for (name, fault) in [
        ("truncated", Model::Truncate { after: 2 }),
        ("cut", Model::Disconnect { after: 2 }),
        ("malformed", Model::Malformed { after: 1 }),
        ("error event", Model::ErrorEvent { after: 1 }),
        ("hang up", Model::HangUp),
        ("rate limit", Model::RateLimit { retry_after: None }),
        ("overloaded", Model::Status { status: 503, body: "overloaded".into() }),
    ] {
        cases.push(broken_model(name, fault));
    }
    cases
}

async fn three_sessions(scene: &mut Scene, nth: usize) -> Result<(), String> {
    for person in 0..3 {
        scene.write(Class::Edit, person, nth);
    }
    scene.settle(PATIENCE).await
}

/// F42.
pub fn redelivery() -> Case {
    let mut case = Case::new("F42 redelivery", || {
        with(plan(), async |scene| {
            for nth in 1..4 {
                for person in 0..3 {
                    scene.write(Class::Edit, person, nth);
                }
                for _ in 0..5 {
                    scene.telegram.redeliver(9);
                    wait::step().await;
                }
            }
            scene.settle(PATIENCE).await?;
            // And once more when all is done, over a restart: memory does not help then.
            scene.telegram.redeliver(12);
            scene.gateway.kill9();
            scene.tend().await;
            scene.ready(PATIENCE).await?;
            scene.telegram.redeliver(12);
            scene.settle(PATIENCE).await?;
            Ok("each update up to 17 times, out of order".into())
        })
    });
    case.fault = "every update again and again, newest first".into();
    case.expected = "one run each".into();
    case
}

/// F40, class A in effect: the network did it and nobody was told.
pub fn lost_answers() -> Case {
    let mut case = Case::new("F40 lost answers", || {
        with(plan(), async |scene| {
            scene.telegram.fault("editMessageText", 3, Fault::CutAfter);
            three_sessions(scene, 1).await?;
            Ok(String::new())
        })
    });
    case.fault = "the connection is cut after an edit was done, three times".into();
    case
}

fn broken_network(name: &'static str, method: &'static str, fault: Fault) -> Case {
    let text = format!("{method}: {fault:?}, three times");
    let mut case = Case::new(format!("F40 network: {name}"), move || {
        with(plan(), async move |scene| {
            scene.telegram.fault(method, 3, fault);
            three_sessions(scene, 1).await?;
            Ok(String::new())
        })
    });
    case.slow = matches!(name, "edit hangs after" | "slow");
    case.fault = text;
    case
}

fn broken_model(name: &'static str, fault: Model) -> Case {
    let text = format!("{fault:?}, twice");
    let mut case = Case::new(format!("F41 model: {name}"), move || {
        with(plan(), async move |scene| {
            scene.model.fault(2, &fault);
            scene.write(Class::Edit, 0, 1);
            scene.settle(PATIENCE).await?;
            Ok(String::new())
        })
    });
    case.fault = text;
    case
}

/// F22.
fn floods() -> Case {
    let mut case = Case::new("F22 floods", || {
        with(plan(), async |scene| {
            let port = scene.gateway.port;
            // Connections that say nothing, half a request, garbage, and deep JSON: all at once, and all held open.
            let silent =
                join_all((0..300).map(|_| tokio::net::TcpStream::connect(("127.0.0.1", port)))).await;
            let mut open: Vec<_> = silent.into_iter().filter_map(Result::ok).collect();
            for (at, stream) in open.iter_mut().enumerate() {
                let text: &[u8] = match at % 3 {
                    0 => b"GET / HTTP/1.1\r\nHost: 127",
                    1 => &[0xff; 512],
                    _ => b"",
                };
                let _cut = stream.write_all(text).await;
            }
            let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
            let posts = (0..20).map(|_| {
                http::request(
                    port,
                    hyper::Method::POST,
                    "/v1/chat/completions",
                    Some(TOKEN),
                    &[],
                    deep.clone().into(),
                )
            });
            let posted = tokio::time::timeout(Duration::from_secs(60), join_all(posts)).await;
            posted.map_err(|_| "deep JSON is never answered")?;
            if scene.info().is_none() {
                return Err("the control socket does not answer during a flood".into());
            }
            scene.write(Class::Edit, 0, 1);
            scene.settle(PATIENCE).await?;
            let count = open.len();
            drop(open);
            let mark = "mark-rpc9-0001";
            load::call(port, &scene.book, "agent:main:flood", mark, PATIENCE).await?;
            Ok(format!("{count} connections held, 20 bodies of 400 kB"))
        })
    });
    case.fault = "half handshakes, garbage, deep JSON".into();
    case.expected = "limits hold, the control socket answers, messages are answered meanwhile".into();
    case
}
