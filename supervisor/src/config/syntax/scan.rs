//! The reader itself: one pass, no look-behind, positions kept on the way.

use super::number;
use super::{DEPTH_LEVELS_MAX, Kind, Member, Node, Position, SyntaxError};

pub(super) struct Scanner<'a> {
    text: &'a str,
    pos: usize,
    file: u16,
    depth: usize,
    /// A place already measured; positions are asked in order, so each byte is counted once.
    mark: (usize, u32, u32),
}

type Scan<T> = Result<T, SyntaxError>;

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, file: u16) -> Self {
        let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, pos: start, file, depth: 0, mark: (start, 1, 1) }
    }

    pub(super) fn document(mut self) -> Scan<Node> {
        self.skip_space()?;
        let node = self.value()?;
        self.skip_space()?;
        if self.peek().is_some() { Err(self.unexpected()) } else { Ok(node) }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.pos..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.pos += next.len_utf8();
        Some(next)
    }

    fn position(&mut self) -> Position {
        let (from, mut line, mut column) = self.mark;
        for c in self.text.get(from..self.pos).unwrap_or("").chars() {
            if c == '\n' {
                (line, column) = (line + 1, 1);
            } else {
                column += u32::try_from(c.len_utf16()).unwrap_or(1);
            }
        }
        self.mark = (self.pos, line, column);
        Position { file: self.file, line, column }
    }

    fn fail(&mut self, what: String) -> SyntaxError {
        let at = self.position();
        SyntaxError { what, line: at.line, column: at.column }
    }

    fn unexpected(&mut self) -> SyntaxError {
        match self.peek() {
            None => self.fail("invalid end of input".to_owned()),
            Some(c) => self.fail(format!("invalid character '{}'", shown(c))),
        }
    }

    fn expect(&mut self, wanted: &str) -> Scan<()> {
        for c in wanted.chars() {
            if self.peek() != Some(c) {
                return Err(self.unexpected());
            }
            self.bump();
        }
        Ok(())
    }

    fn skip_space(&mut self) -> Scan<()> {
        loop {
            match self.peek() {
                Some(c) if c.is_whitespace() || c == '\u{feff}' => {
                    self.bump();
                }
                Some('/') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn comment(&mut self) -> Scan<()> {
        self.bump();
        match self.peek() {
            Some('/') => {
                let rest = self.rest();
                self.pos += rest.find(['\n', '\r', '\u{2028}', '\u{2029}']).unwrap_or(rest.len());
                Ok(())
            }
            Some('*') => {
                let body = self.rest().get(1..).unwrap_or("");
                if let Some(end) = body.find("*/") {
                    self.pos += 1 + end + 2;
                    return Ok(());
                }
                self.pos = self.text.len();
                Err(self.unexpected())
            }
            _ => Err(self.unexpected()),
        }
    }

    fn value(&mut self) -> Scan<Node> {
        let at = self.position();
        let start = self.pos;
        let kind = match self.peek() {
            Some('{') => self.nested(Self::object)?,
            Some('[') => self.nested(Self::list)?,
            Some('"' | '\'') => Kind::Text(self.string()?),
            Some('n') => self.word("null", Kind::Null)?,
            Some('t') => self.word("true", Kind::Bool(true))?,
            Some('f') => self.word("false", Kind::Bool(false))?,
            Some('+' | '-' | '.' | '0'..='9' | 'I' | 'N') => self.number()?,
            _ => return Err(self.unexpected()),
        };
        Ok(Node { at, span: start..self.pos, kind })
    }

    fn word(&mut self, word: &str, kind: Kind) -> Scan<Kind> {
        self.expect(word)?;
        Ok(kind)
    }

    fn nested(&mut self, read: fn(&mut Self) -> Scan<Kind>) -> Scan<Kind> {
        if self.depth >= DEPTH_LEVELS_MAX {
            return Err(self.fail(format!("nesting deeper than {DEPTH_LEVELS_MAX} levels")));
        }
        self.depth += 1;
        self.bump();
        let kind = read(self)?;
        self.depth -= 1;
        Ok(kind)
    }

    fn object(&mut self) -> Scan<Kind> {
        let mut members = Vec::new();
        loop {
            self.skip_space()?;
            if self.peek() == Some('}') {
                self.bump();
                return Ok(Kind::Object(members));
            }
            let at = self.position();
            let start = self.pos;
            let key = self.key()?;
            let key_span = start..self.pos;
            self.skip_space()?;
            self.expect(":")?;
            self.skip_space()?;
            let value = self.value()?;
            members.push(Member { key, at, key_span, value });
            self.skip_space()?;
            match self.peek() {
                Some(',') => {
                    self.bump();
                }
                Some('}') => {}
                _ => return Err(self.unexpected()),
            }
        }
    }

    fn list(&mut self) -> Scan<Kind> {
        let mut items = Vec::new();
        loop {
            self.skip_space()?;
            if self.peek() == Some(']') {
                self.bump();
                return Ok(Kind::List(items));
            }
            items.push(self.value()?);
            self.skip_space()?;
            match self.peek() {
                Some(',') => {
                    self.bump();
                }
                Some(']') => {}
                _ => return Err(self.unexpected()),
            }
        }
    }

    fn key(&mut self) -> Scan<String> {
        match self.peek() {
            Some('"' | '\'') => return self.string(),
            Some(c) if name_start(c) || c == '\\' => {}
            _ => return Err(self.unexpected()),
        }
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if c == '\\' {
                self.bump();
                self.expect("u")?;
                let code = self.hex(4)?;
                name.push(
                    char::from_u32(code)
                        .filter(|c| name_part(*c))
                        .ok_or_else(|| self.fail("invalid identifier character".to_owned()))?,
                );
            } else if name_part(c) {
                name.push(c);
                self.bump();
            } else {
                break;
            }
        }
        Ok(name)
    }

    fn string(&mut self) -> Scan<String> {
        let quote = self.bump();
        let mut out = String::new();
        loop {
            match self.peek() {
                None | Some('\n' | '\r') => return Err(self.unexpected()),
                c if c == quote => {
                    self.bump();
                    return Ok(out);
                }
                Some('\\') => {
                    self.bump();
                    self.escape(&mut out)?;
                }
                Some(c) => {
                    out.push(c);
                    self.bump();
                }
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Scan<()> {
        let Some(c) = self.peek() else { return Err(self.unexpected()) };
        if c.is_ascii_digit() && c != '0' {
            return Err(self.unexpected());
        }
        self.bump();
        match c {
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{b}'),
            '0' if self.peek().is_some_and(|next| next.is_ascii_digit()) => return Err(self.unexpected()),
            '0' => out.push('\0'),
            'x' => out.push(char::from_u32(self.hex(2)?).unwrap_or('\u{fffd}')),
            'u' => out.push(self.unicode()?),
            '\r' => {
                if self.peek() == Some('\n') {
                    self.bump();
                }
            }
            '\n' | '\u{2028}' | '\u{2029}' => {}
            other => out.push(other),
        }
        Ok(())
    }

    /// The code after `\u`, joined with the second half of a pair; a lone half becomes U+FFFD.
    fn unicode(&mut self) -> Scan<char> {
        let first = self.hex(4)?;
        if (0xD800..0xDC00).contains(&first) && self.rest().starts_with("\\u") {
            let before = self.pos;
            self.pos += 2;
            let second = self.hex(4)?;
            if (0xDC00..0xE000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Ok(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            self.pos = before;
        }
        Ok(char::from_u32(first).unwrap_or('\u{fffd}'))
    }

    fn hex(&mut self, digits: usize) -> Scan<u32> {
        let mut code = 0;
        for _ in 0..digits {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(16)) else { return Err(self.unexpected()) };
            code = code * 16 + digit;
            self.bump();
        }
        Ok(code)
    }

    fn number(&mut self) -> Scan<Kind> {
        let (taken, read) = number::take(self.rest());
        match read {
            Some(number) if !self.rest().get(taken..).unwrap_or("").starts_with(name_part) => {
                self.pos += taken;
                Ok(Kind::Number(number))
            }
            _ if self.rest().get(..taken).is_some_and(|word| word.ends_with(['y', 'N'])) => {
                Err(self.fail("number that JSON cannot hold".to_owned()))
            }
            _ => {
                self.pos += taken;
                Err(self.unexpected())
            }
        }
    }
}

fn name_start(c: char) -> bool {
    c.is_alphabetic() || c == '$' || c == '_'
}

fn name_part(c: char) -> bool {
    name_start(c) || c.is_numeric() || c == '\u{200c}' || c == '\u{200d}'
}

fn shown(c: char) -> String {
    match c {
        '\'' | '"' | '\\' => format!("\\{c}"),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c if c < ' ' => format!("\\x{:02x}", u32::from(c)),
        c => c.to_string(),
    }
}
