use super::*;
use proptest::prelude::*;
use std::fmt::Write as _;

const CLASSES: [ExitClass; 8] = [
    ExitClass::Asked,
    ExitClass::Crash,
    ExitClass::OutOfMemory,
    ExitClass::KilledOutside,
    ExitClass::Temporary,
    ExitClass::Config,
    ExitClass::Protocol,
    ExitClass::Login,
];

#[test]
fn thirteen_ends_of_each_class_one_second_apart() {
    let mut table = String::new();
    for kind in [WorkerKind::Channel, WorkerKind::Agent] {
        for class in CLASSES {
            writeln!(table, "{kind:?}, {class}").unwrap();
            let mut restarts = Restarts::new(Policy::of(kind));
            for n in 1..=13u64 {
                let verdict = restarts.on_exit(class, 100, n * 1000, 0);
                let degraded = if restarts.is_degraded(n * 1000) { " (degraded)" } else { "" };
                writeln!(table, "  {n:>2}. {verdict:?}{degraded}").unwrap();
                if !matches!(verdict, Verdict::Restart { .. }) {
                    break;
                }
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn kills_from_outside_slow_down_only_after_twenty_in_a_minute() {
    let mut restarts = Restarts::new(Policy::of(WorkerKind::Channel));
    let mut verdict = |now| restarts.on_exit(ExitClass::KilledOutside, 0, now, 0);
    for n in 0..20 {
        assert_eq!(verdict(n * 100), Verdict::Restart { delay_ms: 0 });
    }
    assert_eq!(verdict(2000), Verdict::Restart { delay_ms: 125 });
    assert_eq!(verdict(2100), Verdict::Restart { delay_ms: 250 });
    assert_eq!(verdict(90_000), Verdict::Restart { delay_ms: 0 });
}

#[test]
fn a_failed_probe_reopens_and_a_good_one_closes_the_quarantine() {
    let mut restarts = Restarts::new(Policy::of(WorkerKind::Agent));
    let quarantined = |verdict| matches!(verdict, Verdict::Quarantine { why: Quarantine::CrashLoop, .. });
    assert!((1..=7).any(|n| quarantined(restarts.on_exit(ExitClass::Crash, 0, n, 0))));
    restarts.probe();
    assert!(quarantined(restarts.on_exit(ExitClass::Crash, 1_000, 4_000_000, 0)));
    restarts.probe();
    assert_eq!(
        restarts.on_exit(ExitClass::Crash, PROBE_GOOD_MS, 8_000_000, 0),
        Verdict::Restart { delay_ms: 0 }
    );
}

#[test]
fn crashes_of_a_few_poison_messages_do_not_count_and_those_of_many_do() {
    let mut restarts = Restarts::new(Policy::of(WorkerKind::Agent));
    for message in 0..BLAMED_MESSAGES_MAX as u64 {
        for crash in 0..3 {
            let verdict = restarts.on_exit(ExitClass::Crash, 0, message * 10_000 + crash, 0);
            assert!(matches!(verdict, Verdict::Restart { .. }), "message {message}: {verdict:?}");
        }
        assert!(restarts.blame_message(message * 10_000 + 9));
        assert!(!restarts.is_degraded(message * 10_000 + 9));
    }
    assert!(!restarts.blame_message(50_000), "so many messages cannot all be poison");
    let quarantined = (1..=7).any(|n| {
        let verdict = restarts.on_exit(ExitClass::Crash, 0, 50_000 + n, 0);
        matches!(verdict, Verdict::Quarantine { why: Quarantine::CrashLoop, .. })
    });
    assert!(quarantined);
    assert!(restarts.blame_message(2_000_000), "later messages are judged anew");
}

proptest! {
    #[test]
    fn delays_stay_in_bounds_and_faults_from_outside_never_quarantine(
        ends in proptest::collection::vec((0usize..8, 0u64..200_000, 0u64..1_000_000, any::<u32>()), 1..100),
        agent: bool,
    ) {
        let policy = Policy::of(if agent { WorkerKind::Agent } else { WorkerKind::Channel });
        let mut restarts = Restarts::new(policy);
        let mut now = 0;
        for (class, step, ready, random) in ends {
            now += step;
            let verdict = restarts.on_exit(CLASSES[class], ready, now, random);
            if let Verdict::Restart { delay_ms } = verdict {
                prop_assert!(delay_ms <= policy.backoff.cap_ms);
            }
            if CLASSES[class] == ExitClass::KilledOutside {
                let is_restart = matches!(verdict, Verdict::Restart { .. });
                prop_assert!(is_restart);
            }
        }
    }

    #[test]
    fn the_first_crash_of_a_worker_restarts_at_once(ready in 0u64..10_000_000, now in 0u64..10_000_000, random: u32) {
        let mut restarts = Restarts::new(Policy::of(WorkerKind::Channel));
        prop_assert_eq!(restarts.on_exit(ExitClass::Crash, ready, now, random), Verdict::Restart { delay_ms: 0 });
    }
}
