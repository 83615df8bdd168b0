use super::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn the_whole_table() {
    let mut table = String::new();
    for backoff in [Backoff::Exponential, Backoff::Linear, Backoff::Fixed, Backoff::None] {
        for asked in [None, Some(7), Some(61)] {
            let policy = RetryPolicy { backoff, max_retries: 5, ..RetryPolicy::default() };
            let asked_wait = asked.map(Duration::from_secs);
            let row: Vec<String> = (0..6)
                .map(|used| match decide(&policy, Reason::RateLimit, asked_wait, used, 0.5) {
                    Decision::Retry { wait } => format!("{} s", wait.as_secs_f64()),
                    Decision::Stop(stop) => format!("{stop:?}"),
                })
                .collect();
            let asked = asked.map_or("-".to_owned(), |s| format!("{s} s"));
            table.push_str(&format!("{:<12} asked {asked:<5} {}\n", format!("{backoff:?}"), row.join(", ")));
        }
    }
    for reason in Reason::ALL {
        let decision = decide(&RetryPolicy::default(), reason, None, 0, 0.5);
        table.push_str(&format!("{:<17} {decision:?}\n", format!("{reason:?}")));
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_configs_words_are_read_leniently() {
    let read = |v: Value| RetryPolicy::from_config(Some(&v));
    assert_eq!(read(json!({ "maxRetries": 3, "backoff": "exponential" })), RetryPolicy::default());
    assert_eq!(read(json!({ "maxRetries": 1 })).max_retries, 1);
    assert_eq!(read(json!({ "backoff": "square" })), RetryPolicy::default());
    assert_eq!(RetryPolicy::from_config(None).min_delay_ms, 2000);
}

proptest! {
    #[test]
    fn waits_stay_in_bounds(max in 0u32..10, min_ms in 0u64..10_000, max_ms in 0u64..100_000, jitter in -1.0f64..2.0, asked in prop::option::of(0u64..200), used in 0u32..200, unit in 0.0f64..1.0) {
        let policy = RetryPolicy { max_retries: max, min_delay_ms: min_ms, max_delay_ms: max_ms, jitter, ..RetryPolicy::default() };
        let asked = asked.map(Duration::from_secs);
        match decide(&policy, Reason::Timeout, asked, used, unit) {
            Decision::Retry { wait } => {
                prop_assert!(used < max);
                prop_assert!(wait <= Duration::from_millis(max_ms));
                prop_assert!(asked.is_none_or(|a| wait >= a), "never sooner than asked");
            }
            Decision::Stop(Stop::Exhausted) => prop_assert!(used >= max),
            Decision::Stop(Stop::WaitTooLong) => prop_assert!(asked.unwrap() > Duration::from_millis(max_ms)),
            Decision::Stop(Stop::Pointless) => prop_assert!(false, "a time-out can be repeated"),
        }
    }
}
