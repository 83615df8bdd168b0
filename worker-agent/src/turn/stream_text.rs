//! Which part of a text that is still being written may be shown. PURE. Held back: thoughts, the beginning of a silent
//! token, an unfinished reply tag or thought tag.

use crate::session::visible::SILENT_TOKEN;

/// Tags that the final text will not have, by the beginning of their name: in any case, with spaces before it.
const HIDDEN_TAGS: [&str; 3] = ["reply_to_current", "reply_to:", "audio_as_voice"];
/// A tag that is longer is none.
const TAG_BYTES_MAX: usize = 300;
const THOUGHT_TAGS: [(&str, &str); 4] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<antthinking>", "</antthinking>"),
];

/// State of one assistant message.
#[derive(Clone, Debug, Default)]
pub struct StreamText {
    /// Written but not yet decided.
    held: String,
    /// Something of this message was shown.
    shown: bool,
    /// The tag that ends the thought we are in.
    thought: Option<&'static str>,
}

impl StreamText {
    /// Takes a piece; returns what may be shown now.
    pub fn push(&mut self, delta: &str) -> String {
        self.held.push_str(delta);
        let mut out = String::new();
        while self.step(&mut out) {}
        if !out.is_empty() {
            self.shown = true;
        }
        out
    }

    /// The text is complete; returns what was held back and is no token after all.
    pub fn end(&mut self) -> String {
        if self.thought.is_some() || (!self.shown && self.held.trim() == SILENT_TOKEN) {
            self.held.clear();
        }
        std::mem::take(&mut self.held)
    }

    /// Decides about the next stretch; false when more text is needed.
    fn step(&mut self, out: &mut String) -> bool {
        if let Some(end) = self.thought {
            let Some(at) = self.held.find(end) else { return false };
            self.held.drain(..at + end.len());
            self.thought = None;
            return true;
        }
        if !self.shown && out.is_empty() && might_be_silent(&self.held) {
            return false;
        }
        let Some(at) = self.held.find(['<', '[']) else {
            out.push_str(&self.held);
            self.held.clear();
            return false;
        };
        out.push_str(&self.held[..at]);
        self.held.drain(..at);
        if let Some((open, close)) = THOUGHT_TAGS.iter().find(|(open, _)| self.held.starts_with(open)) {
            self.held.drain(..open.len());
            self.thought = Some(close);
            return true;
        }
        match hidden_tag(&self.held) {
            Some(true) => {
                let Some(end) = self.held.find("]]") else {
                    return self.held.len() > TAG_BYTES_MAX && self.release(out);
                };
                self.held.drain(..end + 2);
                return true;
            }
            Some(false) if self.held.len() <= TAG_BYTES_MAX => return false,
            _ => {}
        }
        let may_grow = |tag: &str| tag.len() > self.held.len() && tag.starts_with(self.held.as_str());
        if THOUGHT_TAGS.iter().any(|(open, _)| may_grow(open)) {
            return false;
        }
        self.release(out)
    }

    /// Shows one character.
    fn release(&mut self, out: &mut String) -> bool {
        let mut chars = self.held.chars();
        if let Some(first) = chars.next() {
            out.push(first);
            self.held = chars.as_str().to_owned();
        }
        true
    }
}

/// Whether a hidden tag begins here; `Some(false)`: one might, when more has come.
fn hidden_tag(held: &str) -> Option<bool> {
    let Some(inner) = held.strip_prefix("[[") else { return "[[".starts_with(held).then_some(false) };
    let name = inner.trim_start().to_ascii_lowercase();
    let begins = HIDDEN_TAGS.iter().any(|tag| name.starts_with(tag));
    (begins || HIDDEN_TAGS.iter().any(|tag| tag.starts_with(&name))).then_some(begins)
}

/// `NO`, `NO_`, `NO_RE`… and the whole token: nothing is shown before it is clear that more follows.
fn might_be_silent(text: &str) -> bool {
    let text = text.trim_start();
    text.is_empty() || SILENT_TOKEN.starts_with(text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(pieces: &[&str]) -> String {
        let mut stream = StreamText::default();
        let mut out: String = pieces.iter().map(|piece| stream.push(piece)).collect();
        out.push_str(&stream.end());
        out
    }

    #[test]
    fn what_is_held_back() {
        assert_eq!(shown(&["NO", "_RE", "PLY"]), "");
        assert_eq!(shown(&["NO", "_RE", "PLY is a token"]), "NO_REPLY is a token");
        assert_eq!(shown(&["N", "o."]), "No.");
        assert_eq!(shown(&["<thi", "nk>secret</th", "ink>Yes"]), "Yes");
        assert_eq!(shown(&["a [[reply_", "to: 5]] b [x] <b>"]), "a  b [x] <b>");
        assert_eq!(shown(&["[[ Reply_", "To_Current ]]a [[AUDIO_AS_VOICE]] b [[ x"]), "a  b [[ x");
        assert_eq!(shown(&["<think>never closed"]), "");
    }

    proptest! {
        /// However a text is cut into pieces, the same is shown; plain text is shown whole.
        #[test]
        fn pieces_do_not_matter(text in "([a-z <\\[\\]NO_/]|\\[\\[ ?reply_to|:5|]]){0,40}", cuts in proptest::collection::vec(0..40_usize, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(shown(&pieces), shown(&[&text]));
        }
    }
}
