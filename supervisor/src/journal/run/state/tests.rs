use super::*;

#[test]
fn table() {
    let mut lines = String::new();
    for state in RunState::ALL {
        for event in RunEvent::ALL {
            let to = state.on(event).map_or("-", RunState::name);
            lines += &format!("{:<12} {:<10} {to}\n", state.name(), event.name());
        }
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn ended_runs_compute_nothing_more() {
    for state in RunState::ALL.iter().filter(|s| s.ended()) {
        for event in [RunEvent::Start, RunEvent::Interrupt, RunEvent::Finish, RunEvent::Fail] {
            assert!(state.on(event).is_err(), "{} {}", state.name(), event.name());
        }
    }
}

#[test]
fn only_own_crashes_and_age_end_a_run() {
    let times = RunTimes { created_us: 0, ..RunTimes::default() };
    let counts = |crashes, interruptions| RunCounts { attempt: interruptions, crashes, interruptions };
    assert_eq!(verdict(counts(0, 500), times, 1), Verdict::Resume);
    assert_eq!(verdict(counts(2, 2), times, 1), Verdict::Resume);
    assert_eq!(verdict(counts(3, 3), times, 1), Verdict::Poisoned);
    assert_eq!(verdict(counts(0, 1), times, RUN_RESUME_AGE_US_MAX), Verdict::Resume);
    assert_eq!(verdict(counts(0, 1), times, RUN_RESUME_AGE_US_MAX + 1), Verdict::Abandoned);
    let hurried = RunTimes { deadline_us: Some(10), ..times };
    assert_eq!(verdict(counts(0, 1), hurried, 11), Verdict::Abandoned);
}
