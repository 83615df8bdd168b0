//! The text of a patch as operations. Pure. Grammar:
//!
//! ```text
//! patch   = "*** Begin Patch" file* "*** End Patch"
//! file    = "*** Add File: " path ("+" line)*
//!         | "*** Delete File: " path
//!         | "*** Update File: " path ["*** Move to: " path] hunk*
//! hunk    = ["@@" [context]] (" " line | "-" line | "+" line)+ ["*** End of File"]
//! ```
//!
//! Tolerated: a heredoc around the whole, blanks around markers, an empty line for an empty context line.

use super::hunks::Hunk;

/// A whole patch, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    pub files: Vec<(String, Operation)>,
}

/// What happens to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Add { content: String },
    Delete,
    Update { moved: Option<String>, hunks: Vec<Hunk> },
}

/// Where a text is no patch; lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("the first line must be '*** Begin Patch'")]
    NoBegin,
    #[error("the last line must be '*** End Patch'")]
    NoEnd,
    #[error("line {0}: expected '*** Add File:', '*** Delete File:' or '*** Update File:', found {1:?}")]
    NoFile(usize, String),
    #[error("line {0}: the path is missing")]
    NoPath(usize),
    #[error("line {0}: every line of a new file starts with '+', found {1:?}")]
    NotAdded(usize, String),
    #[error("line {0}: a line of a hunk starts with ' ', '-', '+' or '@@', found {1:?}")]
    NotInHunk(usize, String),
    #[error("line {0}: the update of {1} has no hunk")]
    NoHunk(usize, String),
}

const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const ADD: &str = "*** Add File:";
const DELETE: &str = "*** Delete File:";
const UPDATE: &str = "*** Update File:";
const MOVE: &str = "*** Move to:";
const END_OF_FILE: &str = "*** End of File";

/// Parses a whole patch.
pub fn patch(input: &str) -> Result<Patch, ParseError> {
    let lines: Vec<&str> = input.trim().lines().collect();
    let lines = without_heredoc(&lines);
    let [first, body @ .., last] = lines else { return Err(ParseError::NoBegin) };
    if first.trim() != BEGIN {
        return Err(ParseError::NoBegin);
    }
    if last.trim() != END {
        return Err(ParseError::NoEnd);
    }
    let mut parser = Parser { lines: body, at: 0 };
    let mut patch = Patch::default();
    while let Some(file) = parser.file()? {
        patch.files.push(file);
    }
    Ok(patch)
}

/// Drops `cat <<'EOF'`, `apply_patch <<EOF` or `<<EOF` around the patch.
fn without_heredoc<'a, 'b>(lines: &'a [&'b str]) -> &'a [&'b str] {
    let [first, inner @ .., last] = lines else { return lines };
    let Some((_, word)) = first.split_once("<<") else { return lines };
    let word = word.trim().trim_matches(['\'', '"']);
    if word.is_empty() || last.trim() != word { lines } else { inner }
}

struct Parser<'a> {
    lines: &'a [&'a str],
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.at).copied()
    }

    /// The number of the current line in the patch: the first line is the marker.
    fn number(&self) -> usize {
        self.at + 2
    }

    fn file(&mut self) -> Result<Option<(String, Operation)>, ParseError> {
        while self.peek().is_some_and(|line| line.trim().is_empty()) {
            self.at += 1;
        }
        let Some(line) = self.peek() else { return Ok(None) };
        let marker = line.trim();
        let number = self.number();
        let path = |rest: &str| match rest.trim() {
            "" => Err(ParseError::NoPath(number)),
            path => Ok(path.to_owned()),
        };
        self.at += 1;
        if let Some(rest) = marker.strip_prefix(ADD) {
            return Ok(Some((path(rest)?, self.added()?)));
        }
        if let Some(rest) = marker.strip_prefix(DELETE) {
            return Ok(Some((path(rest)?, Operation::Delete)));
        }
        let Some(rest) = marker.strip_prefix(UPDATE) else {
            return Err(ParseError::NoFile(number, shorten(line)));
        };
        let name = path(rest)?;
        let moved = match self.peek().and_then(|line| line.trim().strip_prefix(MOVE)) {
            Some(to) => {
                self.at += 1;
                Some(path(to)?)
            }
            None => None,
        };
        let hunks = self.hunks()?;
        if hunks.is_empty() && moved.is_none() {
            return Err(ParseError::NoHunk(number, name));
        }
        Ok(Some((name, Operation::Update { moved, hunks })))
    }

    fn at_marker(line: &str) -> bool {
        let line = line.trim_end();
        [ADD, DELETE, UPDATE].iter().any(|marker| line.starts_with(marker))
    }

    fn added(&mut self) -> Result<Operation, ParseError> {
        let mut content = String::new();
        while let Some(line) = self.peek().filter(|line| !Self::at_marker(line)) {
            match line.strip_prefix('+') {
                Some(text) => content.push_str(text),
                None if line.trim().is_empty() => {}
                None => return Err(ParseError::NotAdded(self.number(), shorten(line))),
            }
            content.push('\n');
            self.at += 1;
        }
        Ok(Operation::Add { content })
    }

    fn hunks(&mut self) -> Result<Vec<Hunk>, ParseError> {
        let mut hunks: Vec<Hunk> = Vec::new();
        let mut hunk = Hunk::default();
        while let Some(line) = self.peek().filter(|line| !Self::at_marker(line)) {
            self.at += 1;
            if line.trim_end() == END_OF_FILE {
                hunk.at_end = true;
                hunks.push(std::mem::take(&mut hunk));
            } else if let Some(context) = line.strip_prefix("@@") {
                if !hunk.is_empty() {
                    hunks.push(std::mem::take(&mut hunk));
                }
                let context = context.strip_prefix(' ').unwrap_or(context);
                if !context.trim().is_empty() {
                    hunk.context.push(context.to_owned());
                }
            } else if let Some(text) = line.strip_prefix('+') {
                hunk.new.push(text.to_owned());
            } else if let Some(text) = line.strip_prefix('-') {
                hunk.old.push(text.to_owned());
            } else if let Some(text) = line.strip_prefix(' ').or(line.is_empty().then_some("")) {
                hunk.old.push(text.to_owned());
                hunk.new.push(text.to_owned());
            } else {
                self.at -= 1;
                return Err(ParseError::NotInHunk(self.number(), shorten(line)));
            }
        }
        if !hunk.is_empty() {
            hunks.push(hunk);
        }
        Ok(hunks)
    }
}

fn shorten(line: &str) -> String {
    super::super::output::head_chars(line, 80).to_owned()
}
