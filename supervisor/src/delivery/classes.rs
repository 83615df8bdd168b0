//! What a network promises about repeated sends. One line a network.

use crate::journal::{OnUnknown, SendClass};
use serde_json::Value;

/// A: the network tells a repetition by its key. B: it can be asked. C: neither.
pub fn send_class(channel: &str) -> SendClass {
    match channel {
        "whatsapp" | "signal" | "discord" => SendClass::A,
        "slack" => SendClass::B,
        _ => SendClass::C,
    }
}

/// Class C networks with editable messages: a placeholder goes first and becomes the reply by an edit, which can be
/// repeated. At most one empty placeholder is left behind by a death in between.
pub fn two_phase(channel: &str) -> bool {
    channel == "telegram"
}

/// What happens to a class C send whose outcome is not known: `channels.<channel>[.accounts.<account>].onUnknown`.
/// `account` is `<channel>:<account>`.
pub fn on_unknown(config: &Value, account: &str) -> OnUnknown {
    let (channel, account) = account.split_once(':').unwrap_or((account, ""));
    let channel = &config["channels"][channel];
    let written = channel["accounts"][account].get("onUnknown").or_else(|| channel.get("onUnknown"));
    if written.and_then(Value::as_str) == Some("hold") { OnUnknown::Hold } else { OnUnknown::Resend }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_account_may_differ_from_its_channel() {
        let config = json!({"channels": {"telegram": {"onUnknown": "hold", "accounts": {"b": {"onUnknown": "resend"}}}}});
        assert_eq!(on_unknown(&config, "telegram:a"), OnUnknown::Hold);
        assert_eq!(on_unknown(&config, "telegram:b"), OnUnknown::Resend);
        assert_eq!(on_unknown(&config, "signal:a"), OnUnknown::Resend);
    }
}
