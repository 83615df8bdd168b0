//! How long a vendor asks us to wait: `Retry-After` in seconds or as an HTTP date (RFC 9110 10.2.3), the
//! `retry-after-ms` of OpenAI and Azure, and the `RetryInfo` in Google's error bodies. Pure: the current time is an argument.

use std::time::Duration;

use serde_json::Value;

/// Longest span that is taken at its word; anything above is a broken clock or a typing error.
const WAIT_S_MAX: u64 = 7 * 24 * 3600;

/// Reads the two headers; the millisecond one wins since it is the more exact. `now_unix_s` is used for dates.
pub fn wait(retry_after_ms: Option<&str>, retry_after: Option<&str>, now_unix_s: i64) -> Option<Duration> {
    retry_after_ms
        .and_then(|text| text.trim().parse::<f64>().ok())
        .and_then(|ms| bounded(ms / 1000.0))
        .or_else(|| retry_after.and_then(|text| from_header(text, now_unix_s)))
}

/// The wait in an error object: `details[].retryDelay` of `google.rpc.RetryInfo`, for instance `"34.5s"`.
pub fn in_error(error: &Value) -> Option<Duration> {
    let details = error.get("details").and_then(Value::as_array)?;
    let text = details.iter().find_map(|detail| detail.get("retryDelay").and_then(Value::as_str))?;
    text.trim().strip_suffix('s')?.parse::<f64>().ok().and_then(bounded)
}

fn from_header(text: &str, now_unix_s: i64) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return bounded(seconds);
    }
    let at = http_date(text)?;
    bounded(at.saturating_sub(now_unix_s).max(0) as f64)
}

fn bounded(seconds: f64) -> Option<Duration> {
    if !seconds.is_finite() || seconds < 0.0 {
        return None;
    }
    Some(Duration::from_secs_f64(seconds.min(WAIT_S_MAX as f64)))
}

/// Unix seconds of an HTTP date: the IMF form, and the two obsolete ones that a receiver must accept.
fn http_date(text: &str) -> Option<i64> {
    if let Ok(zoned) = jiff::fmt::rfc2822::parse(text) {
        return Some(zoned.timestamp().as_second());
    }
    let formats = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    formats
        .iter()
        .find_map(|format| jiff::civil::DateTime::strptime(format, text).ok())
        .and_then(|at| at.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map(|zoned| zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1994-11-06 08:49:37 UTC, the date of RFC 9110's examples.
    const RFC_DATE_S: i64 = 784_111_777;

    #[test]
    fn seconds_dates_and_milliseconds() {
        let now = RFC_DATE_S - 30;
        let s = |n| Some(Duration::from_secs(n));
        assert_eq!(wait(None, Some("7"), now), s(7));
        assert_eq!(wait(None, Some("Sun, 06 Nov 1994 08:49:37 GMT"), now), s(30));
        assert_eq!(wait(None, Some("Sunday, 06-Nov-94 08:49:37 GMT"), now), s(30));
        assert_eq!(wait(None, Some("Sun Nov  6 08:49:37 1994"), now), s(30));
        assert_eq!(wait(Some("250"), Some("7"), now), Some(Duration::from_millis(250)));
        assert_eq!(
            wait(None, Some("Sun, 06 Nov 1994 08:49:37 GMT"), now + 3600),
            s(0),
            "a past date means now"
        );
    }

    #[test]
    fn google_says_it_in_the_body() {
        let error = |delay: &str| serde_json::json!({ "code": 429, "details": [{ "@type": "x.QuotaFailure" }, { "retryDelay": delay }] });
        assert_eq!(in_error(&error("34.5s")), Some(Duration::from_millis(34_500)));
        assert_eq!(in_error(&error("soon")), None);
        assert_eq!(in_error(&serde_json::json!({ "details": "x" })), None);
    }

    #[test]
    fn nonsense_is_no_answer() {
        for text in ["", "soon", "-3", "NaN", "inf", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(wait(None, Some(text), 0), None, "{text}");
        }
        assert_eq!(wait(None, Some("1e300"), 0), Some(Duration::from_secs(WAIT_S_MAX)));
    }
}
