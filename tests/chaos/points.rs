//! The crash points: every place that the durability rules name, with what happens there, for which kinds of messages.

use crate::case::{Case, Outcome, Tier};
use crate::crash::{self, Crash};
use harness::matrix::Class;
use harness::matrix::chance::Chance;
use std::path::Path;
use std::sync::OnceLock;

/// Which kinds of messages pass a point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// All.
    Any,
    /// Only those of a chat network.
    Network,
    /// A file that a person sends.
    Media,
    /// Reached by the start of a gateway or of a worker, whatever is sent.
    Start,
    /// Reached by the end of a gateway.
    Stop,
    /// Reached by a change of the configuration.
    Config,
    /// Reached by a restart in place.
    Upgrade,
    /// Reached when a conversation is cut down to its newest lines.
    Compact,
    /// Reached when more waits at the network than one poll brings.
    Backlog,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// The process dies, stops, panics there.
    Hit,
    /// The process dies in the middle of a write.
    Torn,
}

use How::{Hit, Torn};
use Way::{Any, Backlog, Compact, Config, Media, Network, Start, Stop, Upgrade};

const POINTS: &[(&str, Way, How)] = &[
    ("ch.login.mid", Start, Hit),
    ("ch.backfill.mid", Backlog, Hit),
    ("ch.recv.before_inbound", Network, Hit),
    ("ch.recv.after_inbound", Network, Hit),
    ("ch.ack.before", Network, Hit),
    ("ch.ack.after", Network, Hit),
    ("ch.media.mid", Media, Hit),
    ("ch.media.before_rename", Media, Hit),
    ("ch.send.before_started", Network, Hit),
    ("ch.send.after_started", Network, Hit),
    ("ch.place.after_response", Network, Hit),
    ("ch.wire.before_write", Network, Hit),
    ("ch.wire.after_response", Network, Hit),
    ("ch.multi.between_parts", Network, Hit),
    ("ch.result.before", Network, Hit),
    ("ag.start.before_c3", Any, Hit),
    ("ag.c3.mid_write", Any, Torn),
    ("ag.c3.after", Any, Hit),
    ("ag.llm.connect", Any, Hit),
    ("ag.llm.mid_stream", Any, Hit),
    ("ag.llm.after", Any, Hit),
    ("ag.c4.mid_write", Any, Torn),
    ("ag.c4.after", Any, Hit),
    ("ag.c5.after", Any, Hit),
    ("ag.tool.spawn", Any, Hit),
    ("ag.tool.running", Any, Hit),
    ("ag.tool.after_exit", Any, Hit),
    ("ag.c6.mid_write", Any, Torn),
    ("ag.c6.after", Any, Hit),
    ("ag.c7.mid_write", Any, Torn),
    ("ag.c7.after", Any, Hit),
    ("ag.final.sent", Any, Hit),
    ("ag.store.mid", Any, Hit),
    ("ag.compact.mid", Compact, Hit),
    ("ag.compact.before_rename", Compact, Hit),
    ("ag.compact.after", Compact, Hit),
    ("sv.in.before_c1", Network, Hit),
    ("sv.c1.mid", Any, Hit),
    ("sv.c1.after", Network, Hit),
    ("sv.c2.before", Any, Hit),
    ("sv.c2.after", Any, Hit),
    ("sv.startrun.sent", Any, Hit),
    ("sv.c8.before", Any, Hit),
    ("sv.c8.after", Any, Hit),
    ("sv.finalack.before", Any, Hit),
    ("sv.c9.after", Network, Hit),
    ("sv.c10.after", Network, Hit),
    ("sv.c12.before", Network, Hit),
    ("sv.migrate.mid", Start, Hit),
    ("sv.recover.mid", Start, Hit),
    ("sv.spawn.after_fork", Start, Hit),
    ("sv.reap.before", Stop, Hit),
    ("sv.checkpoint.mid", Stop, Hit),
    ("sv.stop.draining", Stop, Hit),
    ("sv.cfg.tmp_written", Config, Hit),
    ("sv.cfg.renamed", Config, Hit),
    ("sv.cfg.mid_apply", Config, Hit),
    ("sv.up.preflight", Upgrade, Hit),
    ("sv.up.paused", Upgrade, Hit),
    ("sv.up.state_written", Upgrade, Hit),
    ("sv.up.before_exec", Upgrade, Hit),
    ("sv.up.new_before_ready", Upgrade, Hit),
    ("sv.up.new_after_ready", Upgrade, Hit),
];

/// Points of the design that the matrix cannot reach, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "ch.wire.mid_write",
        "a request is written by the HTTP client in one piece; the network double cuts connections instead (F40)",
    ),
    ("ch.wire.after_write", "same: F40 `cut after` and `hang after` are the outcome"),
    (
        "ch.creds.mid_write",
        "no channel keeps credentials of its own: a bot's token stands in the configuration",
    ),
    ("sv.cfg.rollback", "it: reload (a change that is taken back stays so over a kill)"),
    (
        "ch.pause.before_paused",
        "the link itself answers Pause, no step of a worker's lies before it; it: upgrade",
    ),
    ("ag.pause.before_paused", "same"),
    (
        "sv.dedupe.after_effect",
        "the key is stored in the transaction of its effect (C1): there is no moment between",
    ),
    ("ag.block.before", "replies are not sent in blocks yet"),
    ("ag.block.after", "replies are not sent in blocks yet"),
];

/// Bytes of a torn record that reach the disk: none, a few, most, all but the newline's commit.
const TORN: [usize; 5] = [0, 1, 30, 200, 1_000_000];

/// A turn with a tool call has 7 entries: these cut in the earlier one and leave the one or two that are looked for.
const COMPACT_TO_10: [&str; 5] =
    ["gateway", "call", "sessions.compact", "--params", r#"{"key":"agent:main:s0","maxLines":10}"#];
const COMPACT_TO_17: [&str; 5] =
    ["gateway", "call", "sessions.compact", "--params", r#"{"key":"agent:main:s0","maxLines":17}"#];

/// What may happen at a point, in one tier.
fn actions(how: How, tier: Tier) -> Vec<String> {
    match (how, tier) {
        (Torn, Tier::Smoke) => vec!["torn(30)".into()],
        (Torn, _) => TORN.iter().map(|bytes| format!("torn({bytes})")).collect(),
        (Hit, Tier::Smoke) => vec!["kill".into()],
        (Hit, _) => ["kill", "abort", "panic", "stop"].map(str::to_owned).to_vec(),
    }
}

fn classes(way: Way) -> &'static [Class] {
    match way {
        Any | Stop => &[Class::Edit, Class::Rpc, Class::File],
        Network => &[Class::Edit, Class::File],
        Media | Backlog | Start | Config | Upgrade => &[Class::Edit],
        Compact => &[Class::Rpc],
    }
}

pub fn cases(tier: Tier, seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for (point, way, how) in POINTS {
        if !exists(point) {
            cases.push(skipped(point, "there is no such place in the code"));
            continue;
        }
        for action in actions(*how, tier) {
            for class in classes(*way) {
                for sessions in [1, 3] {
                    let interleaved = sessions > 1;
                    let kept = tier == Tier::Full
                        || (!interleaved && (*class == Class::Edit || *class == Class::Rpc))
                        || (interleaved && *class == Class::Edit && point.ends_with("after"));
                    if kept {
                        cases.push(case(point, *way, &action, *class, sessions, seed));
                    }
                }
            }
        }
    }
    if tier == Tier::Full {
        cases.extend(ELSEWHERE.iter().map(|(point, why)| skipped(point, why)));
    }
    cases
}

fn skipped(point: &str, why: &str) -> Case {
    let outcome = Outcome::skipped(why);
    Case::new(point, move || async move { outcome })
}

fn case(point: &str, way: Way, action: &str, class: Class, sessions: usize, seed: u64) -> Case {
    let name = format!("{point}/{action}/{}/{sessions}", class.name());
    // With several sessions the fault does not always hit the first that comes along.
    let mut skip = if sessions > 1 && matches!(way, Any | Network | Media) {
        Chance::of(seed, &name).between(0, 2)
    } else {
        0
    };
    if point == "ch.ack.after" {
        // One position may stand for all messages of a poll.
        skip = 0;
    }
    if class == Class::File && point.starts_with("ch.wire") {
        // Two texts go out before the file of the first turn.
        skip = 2;
    }
    let crash = Crash {
        spec: if skip > 0 {
            format!("{point}={skip}*off->1*return({action})")
        } else {
            format!("{point}=1*return({action})")
        },
        class,
        sessions,
        each: if sessions > 1 { 2 } else { 1 },
        media: way == Media,
        backlog: way == Backlog,
        earlier: way == Compact,
        at_stop: way == Stop,
        command: match way {
            Config => &["config", "set", "agents.defaults.timeoutSeconds", "500"],
            Compact if sessions > 1 => &COMPACT_TO_17,
            Compact => &COMPACT_TO_10,
            Upgrade => {
                &["gateway", "call", "gateway.restart", "--params", r#"{"delayMs":0,"reason":"matrix"}"#]
            }
            _ => &[],
        },
    };
    let work = crash.clone();
    let mut case = Case::new(name, move || crash::run(work));
    case.load = format!("{sessions} sessions, {} messages each, class {}", crash.each, class.name());
    case.fault = format!("{action} at {point}");
    case.injection = format!("failpoint {}", crash.spec);
    case.slow = action == "stop";
    case
}

/// Whether the sources have a failpoint of this name.
fn exists(point: &str) -> bool {
    static SOURCES: OnceLock<String> = OnceLock::new();
    let sources = SOURCES.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let mut text = String::new();
        for name in ["proto/src", "supervisor/src", "worker-agent/src", "worker-channel/src"] {
            gather(&root.join(name), &mut text);
        }
        text
    });
    sources.contains(&format!("\"{point}\""))
}

fn gather(dir: &Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            gather(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
        }
    }
}
