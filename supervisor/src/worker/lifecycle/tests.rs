use super::*;
use proptest::prelude::*;
use std::fmt::Write as _;

const EVENTS: [Event; 26] = [
    Event::Want,
    Event::SpawnFailed,
    Event::Unconfigured,
    Event::Greeted,
    Event::Progress,
    Event::Ready,
    Event::Degraded,
    Event::Healthy,
    Event::LoginLost,
    Event::Suspect,
    Event::Recovered,
    Event::Hung,
    Event::HungStopped,
    Event::Violation,
    Event::LinkLost,
    Event::IdleTooLong,
    Event::Drain { deadline_ms: 60_000, then: Then::Restart },
    Event::Stop { then: Then::Idle },
    Event::Deadline,
    Event::Exited { class: ExitClass::Crash, random: 0 },
    Event::Exited { class: ExitClass::Config, random: 0 },
    Event::Exited { class: ExitClass::Login, random: 0 },
    Event::Fixed,
    Event::MessageBlamed,
    Event::Disable,
    Event::Enable,
];

/// Brings a fresh worker into each state by events alone.
fn paths() -> Vec<(&'static str, Vec<Event>)> {
    let crash = Event::Exited { class: ExitClass::Crash, random: 0 };
    let up = vec![Event::Want, Event::Greeted, Event::Ready];
    let after = |events: &[Event]| [up.clone(), events.to_vec()].concat();
    vec![
        ("Disabled", vec![Event::Disable]),
        ("Idle", vec![]),
        ("Starting", vec![Event::Want]),
        ("Ready", up.clone()),
        ("Degraded", after(&[Event::Degraded])),
        ("Suspect", after(&[Event::Suspect])),
        ("NeedsLogin, alive", after(&[Event::LoginLost])),
        ("NeedsLogin, exited", vec![Event::Want, Event::Exited { class: ExitClass::Login, random: 0 }]),
        ("Draining", after(&[Event::Drain { deadline_ms: 60_000, then: Then::Idle }])),
        ("Stopping", after(&[Event::Stop { then: Then::Idle }])),
        ("Stopping, link lost", after(&[Event::LinkLost])),
        ("Dumping", after(&[Event::Hung])),
        ("Aborting", after(&[Event::Hung, Event::Deadline])),
        ("Killing", after(&[Event::Violation])),
        ("Stuck", after(&[Event::Violation, Event::Deadline])),
        ("Backoff", after(&[crash, crash])),
        ("Quarantined", vec![Event::Want, Event::Exited { class: ExitClass::Config, random: 0 }]),
    ]
}

fn reach(path: &[Event]) -> Lifecycle {
    let mut life = Lifecycle::new(WorkerKind::Agent, false);
    for event in path {
        life.on(*event, 1_000);
    }
    life
}

#[test]
fn whole_table() {
    let mut table = String::new();
    for (name, path) in paths() {
        let state = format!("{:?}", reach(&path).state());
        assert!(name.starts_with(&state), "{name} led to {state}");
        writeln!(table, "{name}").unwrap();
        for event in EVENTS {
            let mut life = reach(&path);
            let before = (life.state, life.alive, life.then, life.wanted);
            let actions = life.on(event, 2_000);
            let after = (life.state, life.alive, life.then, life.wanted);
            let event = format!("{event:?}");
            if before == after && actions.is_empty() {
                writeln!(table, "  {event:<62} -").unwrap();
            } else {
                writeln!(table, "  {event:<62} {:?} {actions:?}", life.state).unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_hung_worker_is_asked_to_dump_then_aborted_then_killed_then_given_up() {
    let mut life = reach(&[Event::Want, Event::Ready, Event::Hung]);
    let signals: Vec<_> = (0..3).flat_map(|_| life.on(Event::Deadline, 0)).collect();
    let sent: Vec<_> = signals.iter().filter(|action| matches!(action, Action::Signal(_))).collect();
    assert_eq!(sent, [&Action::Signal(Signal::Abort), &Action::Signal(Signal::Kill)]);
    assert_eq!(life.state(), State::Stuck);
    assert!(!life.on(Event::Want, 0).contains(&Action::Spawn), "no replacement beside a stuck process");
    assert!(life.on(Event::Exited { class: ExitClass::Crash, random: 0 }, 0).contains(&Action::Spawn));
}

proptest! {
    #[test]
    fn there_is_never_a_second_process(
        events in proptest::collection::vec(0usize..EVENTS.len(), 0..200),
        permanent: bool,
        channel: bool,
    ) {
        let kind = if channel { WorkerKind::Channel } else { WorkerKind::Agent };
        let mut life = Lifecycle::new(kind, permanent);
        let mut alive = false;
        for (n, event) in events.into_iter().enumerate() {
            let event = EVENTS[event];
            // The driver reports the end of a process only when there is one.
            if matches!(event, Event::Exited { .. } | Event::SpawnFailed | Event::Unconfigured) {
                if !alive {
                    continue;
                }
                alive = false;
            }
            let actions = life.on(event, n as u64 * 700);
            for action in &actions {
                match action {
                    Action::Spawn => {
                        prop_assert!(!alive, "spawned beside a living process on {:?}", event);
                        alive = true;
                    }
                    Action::Signal(_) | Action::SendDrain { .. } => prop_assert!(alive),
                    Action::Up => prop_assert!(life.state().is_up()),
                    _ => {}
                }
            }
            prop_assert_eq!(life.is_alive(), alive);
        }
    }

    #[test]
    fn a_stop_always_ends(prefix in proptest::collection::vec(0usize..EVENTS.len(), 0..60)) {
        let mut life = Lifecycle::new(WorkerKind::Channel, true);
        for event in prefix {
            let event = EVENTS[event];
            if life.is_alive() || !matches!(event, Event::Exited { .. } | Event::SpawnFailed | Event::Unconfigured) {
                life.on(event, 0);
            }
        }
        life.on(Event::Stop { then: Then::Disable }, 0);
        for _ in 0..4 {
            life.on(Event::Deadline, 0);
        }
        if life.is_alive() {
            prop_assert_eq!(life.state(), State::Stuck);
            life.on(Event::Exited { class: ExitClass::KilledOutside, random: 0 }, 0);
        }
        prop_assert_eq!(life.state(), State::Disabled);
    }
}
