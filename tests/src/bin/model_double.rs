//! The model vendors' double as a program: `model_double --port N [--script file.json]`. Prints its address, then
//! serves until it is killed. The script has the shape of `harness::model_server::Script`.

use std::io::Write;

use anyhow::{Context, bail};
use harness::model_server::{ModelServer, Script};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (mut port, mut script) = (0, Script::default());
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--port" => port = value.parse().with_context(|| format!("--port {value}"))?,
            "--script" => {
                let text = std::fs::read_to_string(&value).with_context(|| format!("read {value}"))?;
                script = serde_json::from_str(&text).with_context(|| format!("parse {value}"))?;
            }
            other => bail!("unknown flag {other}: use --port and --script"),
        }
    }
    let server = ModelServer::bind(script, port).await.with_context(|| format!("bind 127.0.0.1:{port}"))?;
    writeln!(std::io::stdout(), "listening on {}", server.url())?;
    std::future::pending::<()>().await;
    Ok(())
}
