//! JSON5 numbers: a sign, hexadecimal, a bare point on either side, an exponent.

use serde_json::Number;

/// How many bytes belong to the number, and its value where JSON can hold it.
pub(super) fn take(text: &str) -> (usize, Option<Number>) {
    let signed = text.starts_with(['+', '-']);
    let negative = text.starts_with('-');
    let body = text.get(usize::from(signed)..).unwrap_or("");
    for word in ["Infinity", "NaN"] {
        if body.starts_with(word) {
            return (usize::from(signed) + word.len(), None);
        }
    }
    let (length, number) = if body.starts_with("0x") || body.starts_with("0X") {
        hexadecimal(body, negative)
    } else {
        decimal(body, negative)
    };
    (usize::from(signed) + length, number)
}

fn hexadecimal(body: &str, negative: bool) -> (usize, Option<Number>) {
    let digits = body.get(2..).unwrap_or("");
    let count = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
    let value = u64::from_str_radix(digits.get(..count).unwrap_or(""), 16).ok();
    let number = match (value, negative) {
        (Some(value), false) => Some(Number::from(value)),
        (Some(value), true) => i64::try_from(value).ok().map(|value| Number::from(-value)),
        (None, _) => None,
    };
    (2 + count, number)
}

fn decimal(body: &str, negative: bool) -> (usize, Option<Number>) {
    let digits = |from: usize| body.bytes().skip(from).take_while(u8::is_ascii_digit).count();
    let whole = digits(0);
    let mut end = whole;
    let mut fraction = 0;
    let point = body.as_bytes().get(end) == Some(&b'.');
    if point {
        fraction = digits(end + 1);
        end += 1 + fraction;
    }
    if whole + fraction == 0 || (whole > 1 && body.starts_with('0')) {
        return (if whole > 1 { 1 } else { end }, None);
    }
    let mut exponent = false;
    if matches!(body.as_bytes().get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(body.as_bytes().get(end + 1), Some(b'+' | b'-')));
        let count = digits(end + 1 + sign);
        end += 1 + sign + count;
        if count == 0 {
            return (end, None);
        }
        exponent = true;
    }
    let text = body.get(..end).unwrap_or("");
    if !point && !exponent {
        let whole = format!("{}{text}", if negative { "-" } else { "" });
        if let Ok(value) = whole.parse::<i64>() {
            return (end, Some(Number::from(value)));
        }
        if let Ok(value) = whole.parse::<u64>() {
            return (end, Some(Number::from(value)));
        }
    }
    let value = text.parse::<f64>().ok().map(|value| if negative { -value } else { value });
    (end, value.and_then(whole_or_float))
}

/// `1.0` and `1e3` are integers to a reader of JSON in JavaScript, so they are here too.
fn whole_or_float(value: f64) -> Option<Number> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT_MAX {
        return format!("{value:.0}").parse::<i64>().ok().map(Number::from);
    }
    Number::from_f64(value)
}
