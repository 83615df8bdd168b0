//! `$include`: other files as parts of this one. Paths are relative to the including file and stay inside the main
//! file's directory; depth and size are bounded; a circle is refused.

use super::key_path::FORBIDDEN_KEYS;
use super::syntax::{Kind, Member, Node, parse_file};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use thiserror::Error;

pub const INCLUDE_KEY: &str = "$include";
/// Files inside files.
const DEPTH_LEVELS_MAX: usize = 10;
/// Files of one configuration altogether; bounds what a wide tree of includes can cost.
const FILES_MAX: usize = 256;
/// Largest file read, main or included: the limit of the original's include reader.
pub const FILE_BYTES_MAX: u64 = 2_097_152;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IncludeError {
    #[error("Invalid $include value: expected string or array of strings, got {0}")]
    Type(&'static str),
    #[error("Sibling keys require included content to be an object")]
    Siblings,
    #[error("Include path escapes config directory: {path} (root: {root})")]
    Escapes { path: String, root: String },
    #[error("Include path resolves outside config directory (symlink): {path} (root: {root})")]
    Symlink { path: String, root: String },
    #[error("Maximum include depth ({DEPTH_LEVELS_MAX}) exceeded at: {0}")]
    Depth(String),
    #[error("Maximum number of included files ({FILES_MAX}) exceeded at: {0}")]
    Count(String),
    #[error("Circular include detected: {0}")]
    Circular(String),
    #[error(
        "Include file failed security checks (regular file, max {FILE_BYTES_MAX} bytes, no hardlinks): {0}"
    )]
    Security(String),
    #[error("Failed to read include file: {path} (resolved: {resolved})")]
    Read { path: String, resolved: String },
    #[error("Failed to parse include file: {path} (resolved: {resolved}): SyntaxError: {error}")]
    Parse { path: String, resolved: String, error: String },
}

/// Files read so far; index 0 is the main file.
pub struct Includes {
    root: PathBuf,
    real_root: PathBuf,
    pub files: Vec<PathBuf>,
}

impl Includes {
    #[must_use]
    pub fn new(main: &Path) -> Self {
        let root = main.parent().unwrap_or(Path::new("/")).to_path_buf();
        let real_root = root.canonicalize().unwrap_or_else(|_| root.clone());
        Self { root, real_root, files: vec![main.to_path_buf()] }
    }

    /// Replaces every `$include` of a tree by what it names.
    ///
    /// # Errors
    /// The first include that may not or cannot be read.
    pub fn expand(&mut self, node: Node, chain: &[PathBuf]) -> Result<Node, IncludeError> {
        let Node { at, span, kind } = node;
        let kind = match kind {
            Kind::List(items) => {
                Kind::List(items.into_iter().map(|item| self.expand(item, chain)).collect::<Result<_, _>>()?)
            }
            Kind::Object(members) => {
                let (mut includes, others): (Vec<_>, Vec<_>) =
                    members.into_iter().partition(|member| member.key == INCLUDE_KEY);
                let others = self.expand_members(others, chain)?;
                let Some(include) = includes.pop() else {
                    return Ok(Node { at, span, kind: Kind::Object(others) });
                };
                let included = self.included(&include.value, chain)?;
                if others.is_empty() {
                    return Ok(included);
                }
                if !matches!(included.kind, Kind::Object(_)) {
                    return Err(IncludeError::Siblings);
                }
                merge(included, Node { at, span: span.clone(), kind: Kind::Object(others) }).kind
            }
            other => other,
        };
        Ok(Node { at, span, kind })
    }

    fn expand_members(
        &mut self,
        members: Vec<Member>,
        chain: &[PathBuf],
    ) -> Result<Vec<Member>, IncludeError> {
        let expanded = members.into_iter().map(|member| {
            let value = self.expand(member.value, chain)?;
            Ok(Member { value, ..member })
        });
        expanded.collect()
    }

    fn included(&mut self, value: &Node, chain: &[PathBuf]) -> Result<Node, IncludeError> {
        match &value.kind {
            Kind::Text(path) => self.load(path, chain),
            Kind::List(items) => {
                let mut all: Option<Node> = None;
                for item in items {
                    let Kind::Text(path) = &item.kind else {
                        return Err(IncludeError::Type(type_name(&item.kind)));
                    };
                    let next = self.load(path, chain)?;
                    all = Some(match all {
                        Some(before) => merge(before, next),
                        None => next,
                    });
                }
                Ok(all.unwrap_or(Node { at: value.at, span: 0..0, kind: Kind::Object(Vec::new()) }))
            }
            other => Err(IncludeError::Type(type_name(other))),
        }
    }

    fn load(&mut self, path: &str, chain: &[PathBuf]) -> Result<Node, IncludeError> {
        let resolved = self.resolve(path, chain)?;
        if let Some(start) = chain.iter().position(|file| *file == resolved) {
            let circle = chain.iter().skip(start).chain(std::iter::once(&resolved));
            let names: Vec<String> = circle.map(|file| file.display().to_string()).collect();
            return Err(IncludeError::Circular(names.join(" -> ")));
        }
        if chain.len() > DEPTH_LEVELS_MAX {
            return Err(IncludeError::Depth(path.to_owned()));
        }
        let index = match self.files.iter().position(|file| *file == resolved) {
            Some(index) => index,
            None => {
                self.files.push(resolved.clone());
                self.files.len() - 1
            }
        };
        if self.files.len() > FILES_MAX {
            return Err(IncludeError::Count(path.to_owned()));
        }
        let text = read_checked(path, &resolved)?;
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        let tree = parse_file(&text, index).map_err(|error| IncludeError::Parse {
            path: path.to_owned(),
            resolved: resolved.display().to_string(),
            error: error.to_string(),
        })?;
        let mut below = chain.to_vec();
        below.push(resolved);
        self.expand(tree, &below)
    }

    /// The absolute path, inside the root by its letters and by what it points to.
    fn resolve(&self, path: &str, chain: &[PathBuf]) -> Result<PathBuf, IncludeError> {
        let directory = chain.last().and_then(|file| file.parent()).unwrap_or(&self.root);
        let lexical = normalized(&directory.join(path));
        let root = normalized(&self.root);
        let escapes = || IncludeError::Escapes { path: path.to_owned(), root: root.display().to_string() };
        if !lexical.starts_with(&root) && !lexical.starts_with(&self.real_root) {
            return Err(escapes());
        }
        match lexical.canonicalize() {
            Ok(real) if !real.starts_with(&self.real_root) => {
                Err(IncludeError::Symlink { path: path.to_owned(), root: root.display().to_string() })
            }
            _ => Ok(lexical),
        }
    }
}

fn read_checked(path: &str, resolved: &Path) -> Result<String, IncludeError> {
    let unreadable =
        |_| IncludeError::Read { path: path.to_owned(), resolved: resolved.display().to_string() };
    let file = super::read::open_at_once(resolved).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() || meta.nlink() > 1 || meta.len() > FILE_BYTES_MAX {
        return Err(IncludeError::Security(path.to_owned()));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// `a/./b/../c` without asking the disk.
fn normalized(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

fn type_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Bool(_) => "boolean",
        Kind::Number(_) => "number",
        Kind::Text(_) => "string",
        Kind::List(_) => "array",
        Kind::Object(_) => "object",
    }
}

/// Deep merge, the later wins; lists are joined; prototype keys are dropped.
fn merge(before: Node, after: Node) -> Node {
    let Node { at, span, kind } = after;
    let kind = match (before.kind, kind) {
        (Kind::Object(mut members), Kind::Object(more)) => {
            for member in more.into_iter().filter(|member| !FORBIDDEN_KEYS.contains(&member.key.as_str())) {
                match members.iter_mut().rev().find(|known| known.key == member.key) {
                    Some(known) => {
                        let old = std::mem::replace(&mut known.value, empty());
                        *known = Member { value: merge(old, member.value), ..member };
                    }
                    None => members.push(member),
                }
            }
            members.retain(|member| !FORBIDDEN_KEYS.contains(&member.key.as_str()));
            Kind::Object(members)
        }
        (Kind::List(mut items), Kind::List(more)) => {
            items.extend(more);
            Kind::List(items)
        }
        (_, later) => later,
    };
    Node { at, span, kind }
}

fn empty() -> Node {
    Node { at: super::syntax::Position::default(), span: 0..0, kind: Kind::Null }
}

#[cfg(test)]
mod tests;
