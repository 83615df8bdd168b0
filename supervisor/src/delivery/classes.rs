//! What a network promises about repeated sends. One line a network.

use crate::journal::{OnUnknown, SendClass};

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

/// What happens to a class C send whose outcome is not known.
pub fn on_unknown(_channel: &str) -> OnUnknown {
    OnUnknown::Resend
}
