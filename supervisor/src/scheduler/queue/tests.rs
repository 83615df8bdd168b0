use std::collections::BTreeSet;

use proptest::prelude::*;
use proto::view::QueueView;

use super::settings::{Overrides, parse_debounce, parse_drop, parse_mode, resolve};
use super::*;

fn item(seq: i64, text: &str) -> Item<()> {
    let route =
        Route { channel: "telegram".into(), to: "42".into(), account: "main".into(), thread: String::new() };
    Item { seq, text: text.into(), message_id: Some(seq.to_string()), route, payload: () }
}

fn with(mode: QueueMode) -> Settings {
    Settings { mode, ..Settings::default() }
}

fn busy(queue: &mut Queue<()>, item: Item<()>, settings: Settings) -> Arrival<()> {
    queue.arrive(item, Kind::Message, Activity::Busy, settings, 0)
}

fn turn(queue: &mut Queue<()>) -> Turn<()> {
    match queue.take(u64::MAX) {
        Next::Turn(turn) => turn,
        other => panic!("no turn: {other:?}"),
    }
}

#[test]
fn collect_merges_what_waited() {
    let mut queue = Queue::default();
    for (seq, text) in [(1, "first"), (2, "second\nline"), (3, "")] {
        assert_eq!(busy(&mut queue, item(seq, text), with(QueueMode::Collect)).action, Action::Queued);
    }
    let turn = turn(&mut queue);
    assert_eq!(turn.kind, TurnKind::Merged);
    assert_eq!(
        turn.prompt,
        "[Queued messages while agent was busy]\n\n---\nQueued #1\nfirst\n\n---\nQueued #2\nsecond\nline\n\n---\nQueued #3"
    );
    assert_eq!(turn.items.iter().map(|i| i.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(queue.take(0), Next::Unsettled);
    queue.settle(true, 5);
    assert_eq!(queue.take(0), Next::Empty);
}

#[test]
fn one_waiting_message_is_still_marked_as_late() {
    let mut queue = Queue::default();
    busy(&mut queue, item(1, "hello"), with(QueueMode::Collect));
    assert_eq!(turn(&mut queue).prompt, "[Queued messages while agent was busy]\n\n---\nQueued #1\nhello");
}

#[test]
fn what_is_dropped_is_summed_up() {
    let settings = Settings { cap: 2, ..with(QueueMode::Collect) };
    let mut queue = Queue::default();
    let mut dropped = Vec::new();
    for (seq, text) in [(1, "a  b\n\tc"), (2, &*"x".repeat(400)), (3, "kept"), (4, "kept too")] {
        dropped.extend(busy(&mut queue, item(seq, text), settings).dropped);
    }
    assert_eq!(dropped.iter().map(|i| i.seq).collect::<Vec<_>>(), [1, 2]);
    let long = format!("{}…", "x".repeat(159));
    let expected = format!(
        "[Queued messages while agent was busy]\n\n[Queue overflow] Dropped 2 messages due to cap.\nSummary:\n- a b c\n- {long}\n\n---\nQueued #1\nkept\n\n---\nQueued #2\nkept too"
    );
    assert_eq!(turn(&mut queue).prompt, expected);
    queue.settle(true, 0);
    assert!(queue.is_empty());
}

#[test]
fn followup_tells_the_summary_first_and_loses_no_item() {
    let settings = Settings { cap: 1, ..with(QueueMode::Followup) };
    let mut queue = Queue::default();
    busy(&mut queue, item(1, "one"), settings);
    busy(&mut queue, item(2, "two"), settings);
    let first = turn(&mut queue);
    assert_eq!(
        (first.kind, first.prompt.as_str()),
        (TurnKind::Summary, "[Queue overflow] Dropped 1 message due to cap.\nSummary:\n- one")
    );
    assert_eq!(first.route.to, "42");
    queue.settle(true, 0);
    let second = turn(&mut queue);
    assert_eq!((second.kind, second.prompt.as_str()), (TurnKind::Single, "two"));
    queue.settle(true, 0);
    assert_eq!(queue.take(9), Next::Empty);
}

#[test]
fn drop_policies() {
    let old = Settings { cap: 1, drop: DropPolicy::Old, ..with(QueueMode::Followup) };
    let mut queue = Queue::default();
    busy(&mut queue, item(1, "a"), old);
    assert_eq!(busy(&mut queue, item(2, "b"), old).dropped[0].seq, 1);
    assert_eq!(turn(&mut queue).prompt, "b", "and no summary");
    let new = Settings { cap: 1, drop: DropPolicy::New, ..with(QueueMode::Followup) };
    let mut queue = Queue::default();
    busy(&mut queue, item(1, "a"), new);
    assert_eq!(busy(&mut queue, item(2, "b"), new).action, Action::Rejected(item(2, "b")));
    assert_eq!(queue.len(), 1);
}

#[test]
fn destinations_are_never_mixed() {
    let mut queue = Queue::default();
    let mut elsewhere = item(2, "two");
    elsewhere.route.thread = "7".into();
    for item in [item(1, "one"), elsewhere, item(3, "three")] {
        busy(&mut queue, item, with(QueueMode::Collect));
    }
    for text in ["one", "two", "three"] {
        assert_eq!(
            turn(&mut queue).prompt,
            text,
            "one by one until empty, also when the rest would fit together"
        );
        queue.settle(true, 0);
    }
    assert_eq!(queue.take(0), Next::Empty);
    busy(&mut queue, item(4, "four"), with(QueueMode::Collect));
    assert_eq!(turn(&mut queue).kind, TurnKind::Merged, "a fresh start");
    let mut queue = Queue::default();
    let mut inside = item(1, "from inside");
    inside.route = Route::default();
    busy(&mut queue, inside, with(QueueMode::Collect));
    busy(&mut queue, item(2, "two"), with(QueueMode::Collect));
    let merged = turn(&mut queue);
    assert_eq!((merged.items.len(), merged.route.to.as_str()), (2, "42"));
}

#[test]
fn the_drain_waits_for_quiet() {
    let mut queue = Queue::default();
    queue.arrive(item(1, "a"), Kind::Message, Activity::Busy, with(QueueMode::Collect), 100);
    queue.arrive(item(2, "b"), Kind::Message, Activity::Busy, with(QueueMode::Collect), 700);
    assert_eq!(queue.take(1699), Next::Wait { until_ms: 1700 });
    // Idle by now, but something waits: a newcomer does not overtake it.
    let late = queue.arrive(item(3, "c"), Kind::Message, Activity::Idle, with(QueueMode::Collect), 1699);
    assert_eq!(late.action, Action::Queued);
    assert_eq!(queue.take(2698), Next::Wait { until_ms: 2699 });
    assert!(matches!(queue.take(2699), Next::Turn(turn) if turn.items.len() == 3));
    queue.settle(false, 5000);
    assert_eq!(queue.take(5000), Next::Wait { until_ms: 6000 }, "a turn that failed to start is tried again");
    assert!(matches!(queue.take(6000), Next::Turn(turn) if turn.items.len() == 3));
}

#[test]
fn modes_by_activity() {
    let decide = |mode, activity| {
        let mut queue = Queue::default();
        let arrival = queue.arrive(item(1, "x"), Kind::Message, activity, with(mode), 0);
        let name = match arrival.action {
            Action::Run(_) => "run",
            Action::Steer { also_queued: false, .. } => "steer",
            Action::Steer { also_queued: true, .. } => "steer and queue",
            Action::Interrupt => "interrupt",
            Action::Queued => "queue",
            _ => "other",
        };
        format!("{name} ({} waiting)", queue.len())
    };
    let mut lines = String::new();
    use QueueMode as M;
    for mode in [M::Collect, M::Followup, M::Steer, M::SteerBacklog, M::Interrupt] {
        for activity in [Activity::Idle, Activity::Streaming, Activity::Busy] {
            let activity_name = format!("{activity:?}");
            lines +=
                &format!("{:<13} {activity_name:<9} {}\n", settings::mode_name(mode), decide(mode, activity));
        }
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn an_interrupting_message_comes_first_and_alone() {
    let mut queue = Queue::default();
    busy(&mut queue, item(1, "old"), with(QueueMode::Collect));
    let arrival = busy(&mut queue, item(2, "now"), with(QueueMode::Interrupt));
    assert_eq!(arrival.action, Action::Interrupt);
    let first = match queue.take(0) {
        Next::Turn(turn) => turn,
        other => panic!("{other:?}"),
    };
    assert_eq!(first.prompt, "now");
    queue.settle(true, 0);
    assert_eq!(turn(&mut queue).prompt, "old");
}

#[test]
fn heartbeats_and_repetitions_are_dropped() {
    let mut queue = Queue::default();
    let settings = with(QueueMode::Collect);
    let beat = queue.arrive(item(1, "beat"), Kind::Heartbeat, Activity::Busy, settings, 0);
    assert_eq!(beat.action, Action::DroppedHeartbeat(item(1, "beat")));
    let beat = queue.arrive(item(1, "beat"), Kind::Heartbeat, Activity::Idle, settings, 0);
    assert_eq!(beat.action, Action::Run(item(1, "beat")));
    busy(&mut queue, item(2, "a"), settings);
    let mut again = item(3, "a");
    again.message_id = Some("2".into());
    assert_eq!(busy(&mut queue, again.clone(), settings).action, Action::Duplicate(again.clone()));
    again.route.thread = "other".into();
    assert_eq!(busy(&mut queue, again, settings).action, Action::Queued);
    let mut nameless = item(4, "a");
    nameless.message_id = None;
    assert_eq!(busy(&mut queue, nameless.clone(), settings).action, Action::Queued);
    assert_eq!(busy(&mut queue, nameless, settings).action, Action::Queued);
}

#[test]
fn settings_come_from_the_nearest_level() {
    let mut config = QueueView::default();
    config.by_channel.insert("telegram".into(), QueueMode::Followup);
    config.debounce_ms = 3000;
    let none = Overrides::default();
    let plain = resolve(none, none, "slack", None, &QueueView::default());
    assert_eq!(plain, Settings::default());
    let channel = resolve(none, none, "telegram", Some(700), &config);
    assert_eq!((channel.mode, channel.debounce_ms), (QueueMode::Followup, 700));
    config.debounce_ms_by_channel.insert("telegram".into(), 50);
    let session = Overrides { mode: Some(QueueMode::Steer), cap: Some(0), ..none };
    let inline = Overrides { debounce_ms: Some(9), ..none };
    let near = resolve(inline, session, "telegram", Some(700), &config);
    assert_eq!((near.mode, near.debounce_ms, near.cap), (QueueMode::Steer, 9, 1));
    assert_eq!(resolve(none, session, "telegram", Some(700), &config).debounce_ms, 50);
}

#[test]
fn spellings() {
    let modes = [
        "queue",
        "QUEUED",
        "steering",
        "coalesce",
        "follow-ups",
        "steer+backlog",
        "steer_backlog",
        "abort",
        "?",
    ];
    let read: Vec<_> = modes.iter().map(|m| parse_mode(m).map(settings::mode_name)).collect();
    let expected =
        ["steer", "steer", "steer", "collect", "followup", "steer-backlog", "steer-backlog", "interrupt"];
    assert_eq!(read[..8], expected.map(Some));
    assert_eq!(read[8], None);
    let debounces = ["2s", "1.5s", "250ms", "1m", "40", "-1", "x", "9999999999s"].map(parse_debounce);
    assert_eq!(debounces, [Some(2000), Some(1500), Some(250), Some(60_000), Some(40), None, None, None]);
    assert_eq!(parse_drop("Summary"), Some(DropPolicy::Summarize));
    assert_eq!(parse_drop("none"), None);
    // The configuration file knows the same spellings.
    let read = |text: &str| serde_json::from_value::<QueueMode>(text.into()).ok();
    for text in &modes[..8] {
        assert_eq!(read(&text.to_lowercase()), parse_mode(text), "{text}");
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Arrive { mode: usize, activity: usize, cap: usize, drop: usize, thread: bool },
    Take,
    Settle(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0..5_usize, 0..3_usize, 1..4_usize, 0..3_usize, any::<bool>()).prop_map(|(mode, activity, cap, drop, thread)| {
            Op::Arrive { mode, activity, cap, drop, thread }
        }),
        3 => Just(Op::Take),
        3 => any::<bool>().prop_map(Op::Settle),
    ]
}

proptest! {
    /// Each message ends in exactly one place, and those that waited are taken in the order in which they came.
    #[test]
    fn nothing_is_lost_doubled_or_overtaken(ops in prop::collection::vec(op(), 0..80)) {
        let modes =
            [QueueMode::Collect, QueueMode::Steer, QueueMode::Followup, QueueMode::SteerBacklog, QueueMode::Interrupt];
        let drops = [DropPolicy::Old, DropPolicy::New, DropPolicy::Summarize];
        let activities = [Activity::Idle, Activity::Streaming, Activity::Busy];
        let mut queue: Queue<()> = Queue::default();
        let (mut arrived, mut done) = (BTreeSet::new(), Vec::new());
        let mut taken: Vec<i64> = Vec::new();
        let mut interrupted = BTreeSet::new();
        let mut in_order = 0;
        for (now, op) in (0_i64..).zip(ops) {
            let now_ms = now.unsigned_abs();
            match op {
                Op::Arrive { mode, activity, cap, drop, thread } => {
                    let settings =
                        Settings { mode: modes[mode], cap, drop: drops[drop], debounce_ms: 0 };
                    let mut new = item(now, &now.to_string());
                    new.route.thread = if thread { "t".into() } else { String::new() };
                    arrived.insert(now);
                    let arrival = queue.arrive(new, Kind::Message, activities[activity], settings, now_ms);
                    done.extend(arrival.dropped.iter().map(|i| i.seq));
                    match arrival.action {
                        Action::Run(i) | Action::Rejected(i) | Action::Steer { item: i, also_queued: false } => {
                            done.push(i.seq);
                        }
                        Action::Interrupt => { interrupted.insert(now); }
                        Action::Queued | Action::Steer { .. } => {}
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                Op::Take => {
                    if let Next::Turn(turn) = queue.take(now_ms) {
                        prop_assert!(taken.is_empty());
                        taken = turn.items.iter().map(|i| i.seq).collect();
                        let routes: BTreeSet<_> = turn.items.iter().map(|i| &i.route.thread).collect();
                        prop_assert!(routes.len() <= 1);
                    }
                }
                Op::Settle(ran) => {
                    queue.settle(ran, now_ms);
                    for seq in taken.drain(..).filter(|_| ran) {
                        if !interrupted.contains(&seq) {
                            prop_assert!(seq >= in_order, "{seq} after {in_order}");
                            in_order = seq;
                        }
                        done.push(seq);
                    }
                }
            }
            prop_assert!(queue.len() <= arrived.len());
        }
        done.extend(&taken);
        done.extend(queue.items().map(|i| i.seq));
        let places = done.len();
        let distinct: BTreeSet<i64> = done.into_iter().collect();
        prop_assert_eq!(places, distinct.len(), "in two places");
        prop_assert_eq!(distinct, arrived);
    }
}
