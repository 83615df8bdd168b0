//! Messages that mean "stop what you are doing". Pure.

/// Whole messages, lower case, without punctuation at the end.
const WORDS: [&str; 45] = [
    "stop",
    "esc",
    "abort",
    "wait",
    "exit",
    "interrupt",
    "halt",
    "please stop",
    "stop please",
    "stop openclaw",
    "openclaw stop",
    "stop action",
    "stop current action",
    "stop run",
    "stop current run",
    "stop agent",
    "stop the agent",
    "stop don't do anything",
    "stop dont do anything",
    "stop do not do anything",
    "stop doing anything",
    "do not do that",
    "detente",
    "deten",
    "detén",
    "arrete",
    "arrête",
    "stopp",
    "anhalten",
    "aufhören",
    "hoer auf",
    "pare",
    "停止",
    "やめて",
    "止めて",
    "रुको",
    "توقف",
    "стоп",
    "остановись",
    "останови",
    "остановить",
    "прекрати",
    "/stop",
    "/abort",
    "/esc",
];

/// Is the whole message a request to stop?
pub fn is_stop_request(text: &str) -> bool {
    let folded = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let folded =
        folded.trim_end_matches(|c: char| c.is_ascii_punctuation() || "。！？…،؟".contains(c)).trim_end();
    WORDS.contains(&folded)
}

#[cfg(test)]
mod tests {
    use super::is_stop_request;

    #[test]
    fn whole_messages_only() {
        for text in ["/stop", "STOP!", " please  stop. ", "стоп", "停止。", "Stop the agent"] {
            assert!(is_stop_request(text), "{text}");
        }
        for text in ["stop the music", "don't stop", "", "!", "how do I stop a service?"] {
            assert!(!is_stop_request(text), "{text}");
        }
    }
}
