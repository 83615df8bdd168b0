//! Bytes of an answer → frames: server-sent events (WHATWG HTML, "event stream interpretation"), JSON lines, or one
//! whole JSON document. Pure; pieces may be cut anywhere, also inside a character. Every buffer has a bound.

/// Longest line: one event of an encrypted reasoning block is the largest seen, at some hundred KiB.
const LINE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest event: several `data:` lines make one, and a whole document counts as one.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One unit of a stream. `event` is empty where the format or the server names none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    pub event: String,
    pub data: String,
}

/// The stream does not fit into the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server sent a {what} of more than {bytes} bytes")]
pub struct TooLong {
    what: &'static str,
    bytes: usize,
}

/// How frames are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Events,
    JsonLines,
    /// One document, handed out at the end of the body.
    Whole,
}

/// Takes pieces, hands out frames.
#[derive(Debug)]
pub struct Framer {
    framing: Framing,
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it belongs to the same line end.
    after_cr: bool,
    /// Nothing but a byte order mark may have been seen yet.
    at_start: bool,
    event: String,
    data: String,
    has_data: bool,
}

impl Framer {
    pub fn new(framing: Framing) -> Self {
        Self {
            framing,
            line: Vec::new(),
            after_cr: false,
            at_start: true,
            event: String::new(),
            data: String::new(),
            has_data: false,
        }
    }

    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Adds a piece; complete frames are appended to `out`.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<Frame>) -> Result<(), TooLong> {
        if self.framing == Framing::Whole {
            return self.keep(piece, EVENT_BYTES_MAX, "document");
        }
        while !piece.is_empty() {
            if std::mem::take(&mut self.after_cr)
                && let Some(rest) = piece.strip_prefix(b"\n")
            {
                piece = rest;
                continue;
            }
            let end = piece.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let (part, rest) = piece.split_at(end.unwrap_or(piece.len()));
            self.keep(part, LINE_BYTES_MAX, "line")?;
            let Some((mark, rest)) = rest.split_first() else { break };
            self.after_cr = *mark == b'\r';
            piece = rest;
            self.line_done(out)?;
        }
        Ok(())
    }

    /// The body ended. A last line or event without its line end is handed out too: some servers leave it off.
    pub fn end(&mut self, out: &mut Vec<Frame>) -> Result<(), TooLong> {
        if !self.line.is_empty() {
            if self.framing == Framing::Whole {
                self.data = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                self.has_data = true;
            } else {
                self.line_done(out)?;
            }
        }
        self.dispatch(out);
        Ok(())
    }

    fn keep(&mut self, part: &[u8], bytes: usize, what: &'static str) -> Result<(), TooLong> {
        if self.line.len().saturating_add(part.len()) > bytes {
            return Err(TooLong { what, bytes });
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn line_done(&mut self, out: &mut Vec<Frame>) -> Result<(), TooLong> {
        let bytes = std::mem::take(&mut self.line);
        let mut line = String::from_utf8_lossy(&bytes).into_owned();
        if std::mem::take(&mut self.at_start) && line.starts_with('\u{feff}') {
            line.remove(0);
        }
        if self.framing == Framing::JsonLines {
            if !line.trim().is_empty() {
                out.push(Frame { event: String::new(), data: line });
            }
            return Ok(());
        }
        if line.is_empty() {
            self.dispatch(out);
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line.as_str(), ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event = value.to_owned(),
            "data" => {
                if self.data.len().saturating_add(value.len()) > EVENT_BYTES_MAX {
                    return Err(TooLong { what: "event", bytes: EVENT_BYTES_MAX });
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            // Comments (empty field name, OpenRouter's keep-alive), `id`, `retry`: nothing that we use.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, out: &mut Vec<Frame>) {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            out.push(Frame { event, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(framing: Framing, pieces: &[&[u8]]) -> Vec<Frame> {
        let (mut framer, mut out) = (Framer::new(framing), Vec::new());
        for piece in pieces {
            framer.push(piece, &mut out).unwrap();
        }
        framer.end(&mut out).unwrap();
        out
    }

    fn frame(event: &str, data: &str) -> Frame {
        Frame { event: event.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_with_comments_and_every_line_end() {
        let text = "\u{feff}: OPENROUTER PROCESSING\r\n\r\nevent: a\rdata: 1\rdata:2\r\revent: lonely\n\nid: 7\ndata: [DONE]";
        assert_eq!(frames(Framing::Events, &[text.as_bytes()]), [frame("a", "1\n2"), frame("", "[DONE]")]);
    }

    #[test]
    fn lines_and_documents() {
        assert_eq!(
            frames(Framing::JsonLines, &[b"{\"a\":1}\n\n{\"b\"", b":2}"]),
            [frame("", "{\"a\":1}"), frame("", "{\"b\":2}")]
        );
        assert_eq!(frames(Framing::Whole, &[b"{\n", b"}"]), [frame("", "{\n}")]);
    }

    #[test]
    fn endless_lines_are_refused() {
        let (mut framer, mut out) = (Framer::new(Framing::Events), Vec::new());
        let piece = vec![b'x'; 64 * 1024];
        let refused = (0..64).find_map(|_| framer.push(&piece, &mut out).err());
        assert_eq!(refused, Some(TooLong { what: "line", bytes: LINE_BYTES_MAX }));
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(words in prop::collection::vec("[a-zé漢😀 :]{0,12}", 1..8), cuts in prop::collection::vec(1usize..9, 0..40), end in prop::sample::select(vec!["\n", "\r\n", "\r"])) {
            let text: String = words.iter().map(|w| format!("data: {w}{end}{end}")).collect();
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(head);
                rest = tail;
            }
            pieces.push(rest);
            let whole: Vec<String> = frames(Framing::Events, &pieces).into_iter().map(|f| f.data).collect();
            prop_assert_eq!(whole, words);
        }
    }
}
