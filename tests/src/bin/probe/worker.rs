//! The attacker in the place of a worker: what a bug in an adapter or in the turn's code would give away.
//!
//! The program lies under the names of both workers in a directory of executables. Called with arguments (`--check-config`), and for
//! every worker but the one that the plan names, it becomes the real worker, which lies in `real/` beside it. For the one named it
//! starts as a worker does, up to and with its confinement by the same code, and then tries the table's probes. Its reports go to
//! standard error, which the gateway puts into its log.

use super::{Plan, attacker, read_plan, run};
use proto::runtime::confine::attributes;
use proto::runtime::shutdown::Hooks;
use proto::runtime::worker_start;
use proto::wire::Wire;
use proto::wire::frame::FrameDecoder;
use proto::wire::handshake::{Bootstrap, SupHandshake, WorkerKind};
use rustix::net::{RecvFlags, recv};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Name of the plan beside the executables; without it, everybody is what they say.
pub const PLAN: &str = "plan.json";
/// A `Bootstrap` is a few hundred bytes.
const PEEK_BYTES_MAX: usize = 64 * 1024;

/// `Some` when this process is a worker, by the name of its file.
pub fn main(args: &[String]) -> Option<ExitCode> {
    if args.get(1).is_some_and(|verb| matches!(verb.as_str(), "one" | "bomb")) {
        return None;
    }
    // Its keeper is ours: the same code as in the real one.
    if args.get(1).is_some_and(|verb| verb == attributes::VERB) {
        return Some(attributes::main(std::iter::empty()));
    }
    let own = std::env::current_exe().ok()?;
    let (dir, name) = (own.parent()?, own.file_name()?.to_str()?);
    let kind = match name {
        "openclaw-agent" => WorkerKind::Agent,
        "openclaw-channel" => WorkerKind::Channel,
        _ => return None,
    };
    let plan_file = dir.join(PLAN);
    let plan = (args.len() == 1).then(|| read_plan(&plan_file.display().to_string())).flatten();
    let wanted = plan.filter(|plan| peek().is_some_and(|bootstrap| bootstrap.worker_id.0 == plan.attacker));
    match wanted {
        Some(plan) => Some(hostile(kind, plan)),
        None => {
            let error = Command::new(dir.join("real").join(name)).arg0(&args[0]).args(&args[1..]).exec();
            eprintln!("cannot become the real worker: {error}");
            Some(ExitCode::from(70))
        }
    }
}

/// The first frame on the link, left there for whoever this process becomes.
fn peek() -> Option<Bootstrap> {
    let mut buffer = vec![0u8; PEEK_BYTES_MAX];
    let (_, bytes) = recv(std::io::stdin(), buffer.as_mut_slice(), RecvFlags::PEEK).ok()?;
    let mut decoder = FrameDecoder::new(PEEK_BYTES_MAX);
    decoder.feed(&buffer[..bytes]);
    let frame = decoder.next_frame().ok()??;
    match SupHandshake::decode(frame.code, &frame.payload) {
        Ok(SupHandshake::Bootstrap(bootstrap)) => Some(bootstrap),
        _ => None,
    }
}

fn hostile(kind: WorkerKind, plan: Plan) -> ExitCode {
    let started = match worker_start::begin(kind, Hooks::default()) {
        Ok(started) => started,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(error.exit_code());
        }
    };
    let who = match kind {
        WorkerKind::Agent => "agent",
        WorkerKind::Channel => "channel",
    };
    let Some(who) = attacker(who) else { return ExitCode::from(70) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let mut greeted = match started.greet().await {
            Ok(greeted) => greeted,
            Err(error) => return ExitCode::from(error.exit_code()),
        };
        let ready = greeted.ready("hostile");
        let probes = std::thread::spawn(move || {
            run(&plan, who, |line| eprintln!("{line}"));
            eprintln!("{}done", super::MARK);
        });
        // The link is served meanwhile, so that the supervisor sees a healthy worker.
        while ready.is_ok() {
            tokio::select! {
                event = greeted.events.recv() => if event.is_none() { break },
                () = greeted.stop.asked() => break,
            }
        }
        drop(probes);
        ExitCode::SUCCESS
    })
}
