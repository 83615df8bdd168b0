//! Which keys exist and what type each has: the keys of the original's two releases and our own, as one tree.
//!
//! The data stands in `known_keys.txt` and `own_keys.txt` beside this file. The tree is built for one validation and
//! dropped: it would cost more memory to keep than time to read.

use std::collections::BTreeMap;
use std::sync::Arc;

const KNOWN: &str = include_str!("known_keys.txt");
const OWN: &str = include_str!("own_keys.txt");

/// What a value may be. Without types and children it may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub string: bool,
    pub integer: bool,
    pub number: bool,
    pub boolean: bool,
    pub null: bool,
    /// An object whose keys nobody lists.
    pub free_object: bool,
    /// Literal values, as JSON text: `"lan"`, `false`, `0`.
    pub literals: Vec<String>,
    pub keys: BTreeMap<String, Arc<Shape>>,
    /// The shape of every key that `keys` does not name.
    pub any_key: Option<Arc<Shape>>,
    /// The shape of a list's items.
    pub item: Option<Arc<Shape>>,
}

impl Shape {
    #[must_use]
    pub fn is_anything(&self) -> bool {
        *self == Self::default()
    }

    #[must_use]
    pub fn allows_object(&self) -> bool {
        self.free_object || !self.keys.is_empty() || self.any_key.is_some()
    }

    /// The shape below a key, if that key may stand here.
    #[must_use]
    pub fn child(&self, key: &str) -> Option<&Arc<Self>> {
        self.keys.get(key).or(self.any_key.as_ref())
    }

    fn add_types(&mut self, text: &str) {
        for word in text.split('|').filter(|word| !word.is_empty()) {
            match word {
                "string" => self.string = true,
                "integer" => self.integer = true,
                "number" => self.number = true,
                "boolean" => self.boolean = true,
                "null" => self.null = true,
                "object" => self.free_object = true,
                literal if !self.literals.iter().any(|known| known == literal) => {
                    self.literals.push(literal.to_owned());
                }
                _ => {}
            }
        }
    }

    /// Accepts what either accepts.
    fn merge(&mut self, other: &Self) {
        self.string |= other.string;
        self.integer |= other.integer;
        self.number |= other.number;
        self.boolean |= other.boolean;
        self.null |= other.null;
        self.free_object |= other.free_object;
        let new = other.literals.iter().filter(|literal| !self.literals.contains(literal));
        let new: Vec<_> = new.cloned().collect();
        self.literals.extend(new);
        for (key, shape) in &other.keys {
            merge_child(self.keys.entry(key.clone()).or_default(), shape);
        }
        for (mine, theirs) in [(&mut self.any_key, &other.any_key), (&mut self.item, &other.item)] {
            if let Some(theirs) = theirs {
                merge_child(mine.get_or_insert_default(), theirs);
            }
        }
    }

    fn insert(&mut self, name: &str, child: Arc<Self>) {
        match name {
            "*" => self.any_key = Some(child),
            "[]" => self.item = Some(child),
            key => {
                self.keys.insert(key.to_owned(), child);
            }
        }
    }
}

fn merge_child(mine: &mut Arc<Shape>, theirs: &Arc<Shape>) {
    if **mine == Shape::default() {
        *mine = Arc::clone(theirs);
    } else if mine != theirs {
        Arc::make_mut(mine).merge(theirs);
    }
}

/// The tree of all keys.
#[must_use]
pub fn shapes() -> Shape {
    shapes_of(&|_| true)
}

/// The tree without the insides of sections that nobody asks for: a start needs a few of some forty, and the whole is a
/// megabyte of small pieces.
#[must_use]
pub fn shapes_of(wanted: &dyn Fn(&str) -> bool) -> Shape {
    let mut root = Groups::of(KNOWN).build("root", wanted);
    root.merge(&Groups::of(OWN).build("root", wanted));
    root
}

/// A file's groups by name, each built when it is first used.
struct Groups<'a> {
    /// Types of the group itself, and the lines below it.
    lines: BTreeMap<&'a str, (&'a str, Vec<&'a str>)>,
    built: BTreeMap<&'a str, Arc<Shape>>,
}

impl<'a> Groups<'a> {
    fn of(text: &'a str) -> Self {
        let mut lines: BTreeMap<&str, (&str, Vec<&str>)> = BTreeMap::new();
        let mut name = "";
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            match line.strip_prefix('&') {
                Some(group) => {
                    let (group, types) = group.split_once(' ').unwrap_or((group, ""));
                    name = group;
                    lines.insert(group, (types, Vec::new()));
                }
                None => lines.entry(name).or_default().1.push(line),
            }
        }
        Self { lines, built: BTreeMap::new() }
    }

    fn group(&mut self, name: &'a str) -> Arc<Shape> {
        if let Some(built) = self.built.get(name) {
            return Arc::clone(built);
        }
        let shape = Arc::new(self.build(name, &|_| true));
        self.built.insert(name, Arc::clone(&shape));
        shape
    }

    /// Lines by depth: a stack of shapes that are still open, closed into their parents as the indentation falls. Keys of
    /// the first depth that are not wanted stay without their insides.
    fn build(&mut self, name: &str, wanted: &dyn Fn(&str) -> bool) -> Shape {
        let (types, lines) = self.lines.remove(name).unwrap_or_default();
        let mut root = Shape::default();
        root.add_types(types);
        let mut open = vec![(String::new(), root)];
        let mut skipping = false;
        for line in lines {
            let depth = line.bytes().take_while(|byte| *byte == b' ').count();
            if depth > 1 && skipping {
                continue;
            }
            close(&mut open, depth);
            let body = line.trim_start_matches(' ');
            let (key, types) = body.split_once(' ').unwrap_or((body, ""));
            skipping = depth == 1 && !wanted(key);
            match types.strip_prefix('&') {
                Some(group) if !skipping => {
                    let shape = self.group(group);
                    if let Some((_, parent)) = open.last_mut() {
                        parent.insert(key, shape);
                    }
                }
                _ => {
                    let mut shape = Shape::default();
                    if !skipping {
                        shape.add_types(types);
                    }
                    open.push((key.to_owned(), shape));
                }
            }
        }
        close(&mut open, 1);
        open.pop().map(|(_, root)| root).unwrap_or_default()
    }
}

/// Closes what stands at this depth or deeper. The root stands at depth 0.
fn close(open: &mut Vec<(String, Shape)>, depth: usize) {
    while open.len() > depth.max(1) {
        let Some((name, shape)) = open.pop() else { return };
        if let Some((_, parent)) = open.last_mut() {
            parent.insert(&name, Arc::new(shape));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(root: &'a Shape, path: &str) -> &'a Shape {
        path.split('.').fold(root, |shape, part| match part {
            "[]" => shape.item.as_ref().expect("item"),
            key => shape.child(key).unwrap_or_else(|| panic!("{path}: no {key}")),
        })
    }

    #[test]
    fn both_releases_and_our_own_keys_are_one_tree() {
        let root = shapes();
        assert!(at(&root, "gateway.port").integer);
        let bind = &at(&root, "gateway.bind").literals;
        assert!(bind.iter().any(|literal| literal == "\"tailnet\""), "{bind:?}");
        assert!(at(&root, "gateway.auth.token").string && at(&root, "gateway.auth.token").allows_object());
        assert!(at(&root, "gateway.reload.mode").literals.contains(&"\"hot\"".to_owned()));
        assert!(at(&root, "gateway.terminal.enabled").boolean, "later release");
        assert!(at(&root, "agents.list.[].identity.name").string, "February release");
        assert!(at(&root, "agents.entries.any-id.cwd").string);
        assert!(at(&root, "agents.defaults.retry.maxRetries").integer, "ours");
        assert!(at(&root, "oauth.providers.x.scopes.[]").string, "ours");
        assert!(at(&root, "channels.telegram.accounts.work.botToken").string, "shared group");
        assert!(at(&root, "plugins.entries.any.config").is_anything());
        assert!(root.child("nope").is_none());
        let few = shapes_of(&|section| section == "gateway");
        assert_eq!(few.keys.keys().collect::<Vec<_>>(), root.keys.keys().collect::<Vec<_>>(), "all names");
        assert_eq!((at(&few, "gateway"), at(&few, "agents")), (at(&root, "gateway"), &Shape::default()));
    }
}
