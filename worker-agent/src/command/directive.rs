//! Settings inside of a message: `/think high why is the sky blue?` thinks for this message only. Pure.
//!
//! A message that is nothing but a setting is a command of its own.

use super::setting::THINK;
use proto::wire::agent::RunSpec;

/// Directives of one message; more are words.
const DIRECTIVES_MAX: usize = 8;

/// What a message asks for beside its words.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub thinking: Option<&'static str>,
    pub model: Option<String>,
}

impl Found {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Takes directives out of a text. Only those that are understood; anything else stays as the person wrote it.
pub fn take(text: &str) -> (Found, String) {
    let mut found = Found::default();
    let mut kept = String::new();
    let mut rest = text;
    let mut count = 0;
    while let Some(at) = next_slash(rest) {
        let (before, from) = rest.split_at(at);
        match (count < DIRECTIVES_MAX).then(|| one(from)).flatten() {
            Some((directive, length)) => {
                count += 1;
                kept.push_str(before.trim_end_matches(' '));
                match directive {
                    Directive::Think(level) => found.thinking = Some(level),
                    Directive::Model(name) => found.model = Some(name),
                }
                rest = from.get(length..).unwrap_or_default();
                if kept.is_empty() {
                    rest = rest.trim_start();
                }
            }
            None => {
                kept.push_str(before);
                kept.push('/');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    kept.push_str(rest);
    (found, kept.trim().to_owned())
}

/// A slash at the beginning or behind white space, outside of code.
fn next_slash(text: &str) -> Option<usize> {
    let mut in_code = false;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '`' => in_code = !in_code,
            '/' if !in_code && before.is_whitespace() => return Some(at),
            _ => {}
        }
        before = c;
    }
    None
}

enum Directive {
    Think(&'static str),
    Model(String),
}

/// The directive at the beginning of the text, and its length.
fn one(text: &str) -> Option<(Directive, usize)> {
    let body = text.strip_prefix('/')?;
    let end = body.find(|c: char| c.is_whitespace() || c == ':')?;
    let (name, after) = body.split_at(end);
    let name = name.to_ascii_lowercase();
    let after_mark = after.strip_prefix(':').unwrap_or(after);
    let value = after_mark.trim_start_matches([' ', '\t']);
    let word = value.get(..value.find(char::is_whitespace).unwrap_or(value.len()))?;
    if word.is_empty() {
        return None;
    }
    let length = text.len() - value.len() + word.len();
    match name.as_str() {
        name if THINK.is_called(name) => Some((Directive::Think(THINK.meant(word)?), length)),
        "model" => Some((Directive::Model(word.to_owned()), length)),
        _ => None,
    }
}

/// The run with the directives of its messages as overrides. Messages of senders who may not use commands are left alone, and
/// so is a message that is a command as a whole.
pub fn applied(mut spec: RunSpec, is_model: impl Fn(&str) -> Option<String>) -> RunSpec {
    for input in &mut spec.inputs {
        if !input.authorised
            || super::parse(&input.raw).is_some_and(|(_, args)| !args.contains(char::is_whitespace))
        {
            continue;
        }
        let (mut found, rest) = take(&input.raw);
        found.model = found.model.and_then(|name| is_model(&name));
        if found.is_empty() || rest.is_empty() || !input.text.ends_with(&input.raw) {
            continue;
        }
        let envelope = input.text.len() - input.raw.len();
        input.text.truncate(envelope);
        input.text.push_str(&rest);
        input.raw = rest;
        if let Some(level) = found.thinking {
            spec.overrides.thinking = Some(level.to_owned());
        }
        if let Some(model) = found.model {
            (spec.overrides.provider, spec.overrides.model) = (None, Some(model));
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::wire::agent::RunInput;

    fn taken(text: &str) -> (Option<&str>, String) {
        let (found, rest) = take(text);
        (found.thinking, rest)
    }

    #[test]
    fn settings_are_taken_out_wherever_they_stand() {
        assert_eq!(taken("/think high why?"), (Some("high"), "why?".into()));
        assert_eq!(taken("why? /t:medium really"), (Some("medium"), "why? really".into()));
        assert_eq!(taken("a /think low b /think off"), (Some("off"), "a b".into()));
        for words in ["/think about it", "see /etc/think high", "`/think high`", "/thinker high x", "/think"]
        {
            assert_eq!(taken(words), (None, words.into()));
        }
        let (found, rest) = take("/model openrouter/auto tell me");
        assert_eq!((found.model.as_deref(), rest.as_str()), (Some("openrouter/auto"), "tell me"));
    }

    fn spec(raw: &str, authorised: bool) -> RunSpec {
        let input =
            RunInput { text: format!("[Mon] {raw}"), raw: raw.into(), authorised, ..RunInput::default() };
        RunSpec { inputs: vec![input], ..RunSpec::default() }
    }

    #[test]
    fn they_hold_for_this_message_if_its_sender_may_use_commands() {
        let known = |name: &str| (name == "opus").then(|| "anthropic/opus".to_owned());
        let run = applied(spec("/model opus /think low hi", true), known);
        assert_eq!(run.inputs[0].text, "[Mon] hi");
        assert_eq!(
            (run.overrides.model.as_deref(), run.overrides.thinking.as_deref()),
            (Some("anthropic/opus"), Some("low"))
        );
        for untouched in
            [spec("/think low hi", false), spec("/think low", true), spec("/model nonsense hi", true)]
        {
            assert_eq!(applied(untouched.clone(), known), untouched);
        }
    }

    proptest! {
        #[test]
        fn texts_without_directives_are_left_alone(text in "[a-z /`\n]{0,60}") {
            let (found, rest) = take(&text);
            if found.is_empty() {
                prop_assert_eq!(rest, text.trim());
            }
        }
    }
}
