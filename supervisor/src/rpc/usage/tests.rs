use super::*;
use crate::journal::UsageDelta;
use jiff::civil::date;

fn day(day: &str, model: &str, input: u64, cost_micros: u64) -> UsageDay {
    let sum = UsageDelta {
        day: day.into(),
        agent: "main".into(),
        provider: "p".into(),
        model: model.into(),
        input,
        cost_micros,
        ..UsageDelta::default()
    };
    UsageDay { sum, turns: 2 }
}

#[test]
fn a_report_spans_days_that_include_today() {
    let today = date(2026, 3, 1);
    let read = |params: Value| Span::read(&Params::of("usage.cost", &params), today);
    let span = read(json!({})).unwrap();
    assert_eq!((span.from, span.to, span.days().count()), (date(2026, 1, 31), today, 30));
    assert_eq!(read(json!({"days": 1})).unwrap(), Span { from: today, to: today });
    let named = read(json!({"startDate": "2026-02-27", "endDate": "2026-03-01"})).unwrap();
    assert_eq!(
        named.days().map(|day| day.to_string()).collect::<Vec<_>>(),
        ["2026-02-27", "2026-02-28", "2026-03-01"]
    );
    assert_eq!(read(json!({"startDate": "0001-01-01"})).unwrap().days().count() as u64, DAYS_MAX);
    assert!(read(json!({"startDate": "2026-03-02"})).unwrap_err().message.contains("must not be after"));
    assert!(read(json!({"startDate": "soon"})).unwrap_err().message.contains("YYYY-MM-DD"));
}

#[test]
fn sums_keep_what_has_no_price_apart() {
    let days = [
        day("2026-03-01", "a", 10, 1_500_000),
        day("2026-03-01", "b", 5, 0),
        day("2026-03-02", "a", 1, 500_000),
    ];
    let mut all = Sum::default();
    days.iter().for_each(|day| all.add(Sum::of(day)));
    let shown = Value::Object(all.json());
    assert_eq!((&shown["input"], &shown["totalTokens"]), (&json!(16), &json!(16)));
    assert_eq!((&shown["totalCost"], &shown["missingCostEntries"]), (&json!(2.0), &json!(2)));
    let by = aggregates(&days, 1);
    assert_eq!(by["byModel"].as_array().unwrap().len(), 2);
    assert_eq!(by["byModel"][0]["totals"]["input"], 11);
    assert_eq!(by["byProvider"][0]["count"], 6);
    assert_eq!(by["daily"][0]["tokens"], 15);
}
