use super::*;
use crate::front::presence::Presence;
use proptest::prelude::*;
use proto::wire::Id;

/// The text of a run whose messages come in these pieces, after each piece.
fn texts(pieces: &[(u32, &str)]) -> Vec<String> {
    let (fanout, _source) = Fanout::new(Presence::new("box", "1", "linux", "boot"));
    let mut voice = Publisher::new(fanout, "r", "agent:main:main", "main", || 0);
    let said = pieces.iter().map(|(message, text)| {
        let text = (*text).to_owned();
        voice.delta(&Delta { run_id: Id::NIL, attempt: 1, message: *message, kind: DeltaKind::Text, text });
        voice.text().to_string()
    });
    said.collect()
}

#[test]
fn messages_are_parted_by_one_empty_line() {
    let last = |pieces: &[(u32, &str)]| texts(pieces).pop().unwrap_or_default();
    assert_eq!(last(&[(0, "Let me look.\n\n"), (1, "\n\nFound it.")]), "Let me look.\n\nFound it.");
    assert_eq!(last(&[(0, "a"), (1, "b"), (2, "c")]), "a\n\nb\n\nc");
    assert_eq!(last(&[(0, "a\n"), (1, "\n"), (2, "\nb\n\nc")]), "a\n\nb\n\nc", "its own paragraphs stay");
    assert_eq!(last(&[(0, "\n\n"), (1, "a")]), "a");
}

proptest! {
    /// A stream takes nothing back: each text begins with the one before.
    #[test]
    fn a_text_only_grows(mut pieces in proptest::collection::vec((0u32..4, "[a\\n]{0,4}"), 0..12)) {
        pieces.sort_by_key(|(message, _)| *message);
        let pieces: Vec<(u32, &str)> = pieces.iter().map(|(message, text)| (*message, text.as_str())).collect();
        let texts = texts(&pieces);
        for pair in texts.windows(2) {
            prop_assert!(pair[1].starts_with(&pair[0]), "{pair:?}");
        }
    }
}
