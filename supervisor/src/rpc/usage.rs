//! `usage.*`: tokens and cost per day, as the journal adds them up at the end of each run.

use super::params::Params;
use super::session_rows::{Defaults, Style, list_row};
use super::{Answer, RpcError};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::journal::{Journal, SessionFilter, UsageDay};
use crate::scheduler::shared::now_ms;
use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Days of a report when the caller names none.
const DAYS_DEFAULT: u64 = 30;
/// Older than ten years is nobody's bill; it bounds the answer.
const DAYS_MAX: u64 = 3_660;
/// Sessions that `sessions.usage` lists when the caller names no limit.
const SESSION_ROWS_DEFAULT: u64 = 50;
/// The published limit of `sessions.usage.limit`.
const SESSION_ROWS_MAX: u64 = 1_000;
const MICROS: f64 = 1_000_000.0;

/// Tokens and money of some turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
    cost_micros: u64,
    turns: u64,
    /// Turns of models whose price is not known.
    unpriced: u64,
}

impl Sum {
    fn of(day: &UsageDay) -> Self {
        let sum = &day.sum;
        let used = sum.input + sum.output + sum.cache_read + sum.cache_write > 0;
        Self {
            input: sum.input,
            output: sum.output,
            cache_read: sum.cache_read,
            cache_write: sum.cache_write,
            cost_micros: sum.cost_micros,
            turns: day.turns,
            unpriced: if used && sum.cost_micros == 0 { day.turns } else { 0 },
        }
    }

    fn add(&mut self, other: Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_read += other.cache_read;
        self.cache_write += other.cache_write;
        self.cost_micros += other.cost_micros;
        self.turns += other.turns;
        self.unpriced += other.unpriced;
    }

    fn total(self) -> u64 {
        self.input + self.output + self.cache_read + self.cache_write
    }

    /// US dollars.
    fn cost(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "money of a person's use, far below 2^52 millionths")]
        let micros = self.cost_micros as f64;
        micros / MICROS
    }

    fn json(self) -> Map<String, Value> {
        // The journal keeps the cost of a turn whole.
        let shown = json!({
            "input": self.input, "output": self.output, "cacheRead": self.cache_read, "cacheWrite": self.cache_write,
            "totalTokens": self.total(), "totalCost": self.cost(), "inputCost": 0, "outputCost": 0,
            "cacheReadCost": 0, "cacheWriteCost": 0, "missingCostEntries": self.unpriced,
        });
        shown.as_object().cloned().unwrap_or_default()
    }
}

/// First and last day of a report, both in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: Date,
    to: Date,
}

impl Span {
    /// `startDate` and `endDate`, else the last `days`.
    fn read(read: &Params<'_>, today: Date) -> Result<Self, RpcError> {
        let date = |key: &str| match read.text(key)? {
            None => Ok(None),
            Some(text) => {
                let parsed: Result<Date, _> = text.parse();
                parsed.map(Some).map_err(|_| read.refuse(&format!("at /{key}: must be a date YYYY-MM-DD")))
            }
        };
        let days = read.count("days")?.unwrap_or(DAYS_DEFAULT).clamp(1, DAYS_MAX);
        let back =
            |from: Date, days: u64| from.checked_sub(i64::try_from(days).unwrap_or(0).days()).unwrap_or(from);
        let to = date("endDate")?.unwrap_or(today);
        let from = date("startDate")?.unwrap_or_else(|| back(to, days - 1));
        if from > to {
            return Err(read.refuse("at /startDate: must not be after endDate"));
        }
        Ok(Self { from: from.max(back(to, DAYS_MAX - 1)), to })
    }

    fn days(self) -> impl Iterator<Item = Date> {
        self.from.series(1.day()).take_while(move |day| *day <= self.to)
    }
}

async fn days(gw: &Handles, span: Span) -> Result<Vec<UsageDay>, RpcError> {
    let listed = gw.journal.usage_list(span.from.to_string(), span.to.to_string()).await;
    listed.map_err(|error| RpcError::unavailable(error.to_string()))
}

fn today() -> Date {
    jiff::Zoned::now().date()
}

/// `usage.cost {days? | startDate?, endDate?}`. Protocol 4 lists days without use too.
///
/// # Errors
/// Malformed params.
pub async fn cost(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let span = Span::read(&Params::of("usage.cost", &params), today())?;
    let listed = days(gw, span).await?;
    let mut by_day: BTreeMap<String, Sum> = BTreeMap::new();
    if caller.protocol >= 4 {
        by_day.extend(span.days().map(|day| (day.to_string(), Sum::default())));
    }
    let mut totals = Sum::default();
    for day in &listed {
        let sum = Sum::of(day);
        by_day.entry(day.sum.day.clone()).or_default().add(sum);
        totals.add(sum);
    }
    let daily: Vec<Value> = by_day
        .into_iter()
        .map(|(day, sum)| {
            let mut row = Map::from_iter([("date".to_owned(), day.into())]);
            row.extend(sum.json());
            Value::Object(row)
        })
        .collect();
    let mut answer = json!({
        "updatedAt": now_ms(), "days": span.days().count(), "daily": daily, "totals": totals.json(),
    });
    if caller.protocol >= 4 {
        answer["cacheStatus"] =
            json!({"status": "fresh", "cachedFiles": 0, "pendingFiles": 0, "staleFiles": 0});
    }
    Ok(answer.into())
}

/// `usage.status {}`: quotas of subscriptions; no provider of this build reports any.
///
/// # Errors
/// None.
pub async fn status(_gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    Ok(json!({"updatedAt": now_ms(), "providers": []}).into())
}

/// `sessions.usage {startDate?, endDate?, limit?, key?}`. Sums are kept per day and model, not per session: a session's
/// own `usage` is null.
///
/// # Errors
/// Malformed params.
pub async fn sessions(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("sessions.usage", &params);
    let span = Span::read(&read, today())?;
    let limit = read.count("limit")?.unwrap_or(SESSION_ROWS_DEFAULT).min(SESSION_ROWS_MAX);
    let key = read.text("key")?.map(|raw| super::forward::session(gw, raw).0);
    let listed = days(gw, span).await?;
    let filter = SessionFilter { limit: u32::try_from(limit).ok(), ..SessionFilter::default() };
    let rows = match &key {
        Some(key) => gw.journal.session_get(key.clone()).await.map(|row| row.into_iter().collect()),
        None => gw.journal.session_list(filter).await,
    };
    let rows = rows.map_err(|error| RpcError::unavailable(error.to_string()))?;
    let (config, style) = (gw.config.current(), Style { protocol: 3, ..Style::default() });
    let sessions: Vec<Value> = rows
        .iter()
        .map(|row| {
            let entry = serde_json::from_str(&row.entry_json).unwrap_or_default();
            let mut shown = list_row(row, &entry, &Defaults::of(&config, &row.agent_id), &style);
            shown["agentId"] = row.agent_id.as_str().into();
            shown["usage"] = Value::Null;
            if caller.protocol >= 4 {
                shown["scope"] = "instance".into();
                shown["hasContextWeight"] = false.into();
            }
            shown
        })
        .collect();
    let mut totals = Sum::default();
    for day in &listed {
        totals.add(Sum::of(day));
    }
    Ok(json!({
        "updatedAt": now_ms(), "startDate": span.from.to_string(), "endDate": span.to.to_string(),
        "sessions": sessions, "totals": totals.json(), "aggregates": aggregates(&listed, sessions.len()),
    })
    .into())
}

fn grouped(days: &[UsageDay], name: impl Fn(&UsageDay) -> Vec<(&'static str, String)>) -> Vec<Value> {
    let mut sums: BTreeMap<Vec<(&'static str, String)>, Sum> = BTreeMap::new();
    for day in days {
        sums.entry(name(day)).or_default().add(Sum::of(day));
    }
    let row = |(names, sum): (Vec<(&'static str, String)>, Sum)| {
        let mut row: Map<String, Value> =
            names.into_iter().map(|(field, value)| (field.to_owned(), value.into())).collect();
        row.insert("count".into(), sum.turns.into());
        row.insert("totals".into(), Value::Object(sum.json()));
        Value::Object(row)
    };
    sums.into_iter().map(row).collect()
}

fn aggregates(days: &[UsageDay], sessions: usize) -> Value {
    let mut daily: BTreeMap<&str, Sum> = BTreeMap::new();
    for day in days {
        daily.entry(&day.sum.day).or_default().add(Sum::of(day));
    }
    let daily: Vec<Value> = daily
        .into_iter()
        .map(|(day, sum)| {
            json!({"date": day, "tokens": sum.total(), "cost": sum.cost(), "messages": sum.turns, "toolCalls": 0, "errors": 0})
        })
        .collect();
    json!({
        "sessionCount": sessions,
        "messages": {"total": 0, "user": 0, "assistant": 0, "toolCalls": 0, "toolResults": 0, "errors": 0},
        "tools": {"totalCalls": 0, "uniqueTools": 0, "tools": []},
        "byModel": grouped(days, |day| {
            vec![("provider", day.sum.provider.clone()), ("model", day.sum.model.clone())]
        }),
        "byProvider": grouped(days, |day| vec![("provider", day.sum.provider.clone())]),
        "byAgent": grouped(days, |day| vec![("agentId", day.sum.agent.clone())]),
        "byChannel": [],
        "daily": daily,
    })
}

#[cfg(test)]
mod tests;
