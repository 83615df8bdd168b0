use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: f64 = 1_000_000_000.0;

/// Minutes of rest after each of several failures, each just after the rest before has ended.
fn rests(reason: Reason, times: usize) -> Vec<f64> {
    let (mut stats, mut now, mut out) = (Stats::default(), NOW, Vec::new());
    for _ in 0..times {
        assert!(stats.failed(reason, "p", &Rules::default(), now));
        let until = stats.blocked_until();
        out.push((until - now) / MINUTE_MS);
        now = until + 1.0;
    }
    out
}

#[test]
fn failures_in_a_row_rest_longer_and_longer() {
    for reason in [Reason::RateLimit, Reason::Overloaded, Reason::Auth, Reason::Format] {
        assert_eq!(rests(reason, 5), [1.0, 5.0, 25.0, 60.0, 60.0], "{reason:?}");
    }
    for reason in [Reason::Billing, Reason::AuthPermanent] {
        assert_eq!(rests(reason, 4), [300.0, 600.0, 1200.0, 1440.0], "{reason:?}");
    }
}

#[test]
fn only_failures_of_a_key_make_it_rest() {
    for reason in Reason::ALL {
        let mut stats = Stats::default();
        let rests = stats.failed(reason, "p", &Rules::default(), NOW);
        let of_a_key = matches!(
            reason,
            Reason::RateLimit
                | Reason::Overloaded
                | Reason::Billing
                | Reason::Auth
                | Reason::AuthPermanent
                | Reason::Format
        );
        assert_eq!(rests, of_a_key, "{reason:?}");
        assert_eq!(stats.rest(NOW).is_some(), of_a_key, "{reason:?}");
        assert!(rests || stats == Stats::default(), "{reason:?}");
    }
}

#[test]
fn a_running_window_is_not_extended_and_a_day_without_failure_starts_anew() {
    let (mut stats, rules) = (Stats::default(), Rules::default());
    stats.failed(Reason::RateLimit, "p", &rules, NOW);
    stats.failed(Reason::RateLimit, "p", &rules, NOW + 30_000.0);
    assert_eq!(stats.cooldown_until, NOW + MINUTE_MS);
    assert_eq!((stats.error_count, stats.failure_counts["rate_limit"]), (2, 2));
    let later = NOW + 30_000.0 + 24.0 * HOUR_MS + 1.0;
    stats.failed(Reason::Auth, "p", &rules, later);
    assert_eq!((stats.error_count, stats.cooldown_until), (1, later + MINUTE_MS));
    assert_eq!(stats.rest(later).map(|rest| rest.reason), Some("auth".to_owned()));
}

#[test]
fn a_reply_forgets_everything_but_unknown_fields() {
    let mut stats: Stats =
        serde_json::from_value(json!({"cooldownUntil": NOW + 5.0, "errorCount": 3, "failureCounts": {"rate_limit": 3}, "soonToCome": [1]}))
            .unwrap();
    assert!(stats.succeeded(NOW));
    assert_eq!(serde_json::to_value(&stats).unwrap(), json!({"lastUsed": NOW, "soonToCome": [1]}));
    assert!(!stats.succeeded(NOW + 1.0), "nothing left to forget");
}

#[test]
fn hours_come_from_the_configuration() {
    let rules: Rules = serde_json::from_value(
        json!({"billingBackoffHours": 1, "billingBackoffHoursByProvider": {"dear": 3}, "billingMaxHours": 4}),
    )
    .unwrap();
    let hours = |provider: &str, n: u32| disabled_ms(n, provider, &rules) / HOUR_MS;
    assert_eq!([hours("p", 1), hours("p", 2), hours("p", 9)], [1.0, 2.0, 4.0]);
    assert_eq!([hours("dear", 1), hours("dear", 2)], [3.0, 4.0]);
}

#[test]
fn a_limit_is_probed_near_its_end_and_a_disabled_key_is_not() {
    let rest = |reason: &str, in_ms: f64| Rest { reason: reason.to_owned(), until_ms: NOW + in_ms };
    assert!(probe_due(&rest("rate_limit", 60_000.0), None, NOW));
    assert!(!probe_due(&rest("rate_limit", 121_000.0), None, NOW));
    assert!(!probe_due(&rest("rate_limit", 60_000.0), Some(NOW - 29_000.0), NOW));
    assert!(probe_due(&rest("rate_limit", 60_000.0), Some(NOW - 30_000.0), NOW));
    assert!(!probe_due(&rest("billing", 60_000.0), None, NOW));
}

proptest! {
    /// Whatever happens in whatever order, a rest ends, and no later than a day after the last failure.
    #[test]
    fn every_rest_ends(steps in prop::collection::vec((0_usize..17, 0_u32..200), 0..60)) {
        let (mut stats, mut now) = (Stats::default(), NOW);
        for (what, minutes) in steps {
            now += f64::from(minutes) * MINUTE_MS;
            match Reason::ALL.get(what) {
                Some(reason) => { stats.failed(*reason, "p", &Rules::default(), now); }
                None => { stats.succeeded(now); prop_assert_eq!(stats.rest(now), None); }
            }
            prop_assert!(stats.blocked_until() <= now + 24.0 * HOUR_MS);
        }
    }
}
