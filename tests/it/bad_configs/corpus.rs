//! The bad configurations: texts from `tests/data/bad-configs`, a good one cut at many places, every key of the schema
//! with a value of a wrong type, and files that are none.

use harness::gateway::merge;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const SYNTAX: &str = include_str!("../../data/bad-configs/syntax.txt");
const SEMANTICS: &str = include_str!("../../data/bad-configs/semantics.jsonl");
/// Places at which a good file is cut.
const CUTS: usize = 40;
/// Keys that get a value of a wrong type; evenly out of some three thousand.
const WRONG_TYPES: usize = 150;

/// How it gets into the place of the file.
pub enum Put {
    Bytes(Vec<u8>),
    /// Something that is not a file with a text.
    Act(Box<dyn Fn(&Path)>),
}

pub struct Bad {
    pub family: &'static str,
    pub name: String,
    pub put: Put,
}

impl Bad {
    fn text(family: &'static str, name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self { family, name: format!("{family}: {}", name.into()), put: Put::Bytes(text.into()) }
    }

    fn act(name: &str, act: impl Fn(&Path) + 'static) -> Self {
        Self { family: "files", name: format!("files: {name}"), put: Put::Act(Box::new(act)) }
    }
}

pub struct Corpus {
    /// A good one.
    pub base: String,
    good: Value,
    wrong_types: Vec<(String, Value)>,
    home: PathBuf,
    token: String,
    taken: u16,
}

impl Corpus {
    pub fn new(base: &str, schema: &Value, home: &Path, token: &str, taken: u16) -> Self {
        fs::write(home.join("a-file"), "x").expect("write");
        let mut wrong_types = Vec::new();
        walk(schema, &mut Vec::new(), &mut wrong_types);
        let step = (wrong_types.len() / WRONG_TYPES).max(1);
        Self {
            base: base.to_owned(),
            good: serde_json::from_str(base).expect("JSON"),
            wrong_types: wrong_types.into_iter().step_by(step).collect(),
            home: home.to_owned(),
            token: token.to_owned(),
            taken,
        }
    }

    pub fn all(&self) -> Vec<Bad> {
        [
            self.syntax(),
            self.cuts(),
            self.bytes(),
            self.unknown_keys(),
            self.types(),
            self.semantics(),
            self.files(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// At most so many of each family, from all over it; all of those that concern a start.
    pub fn sample(&self, of_each: usize) -> Vec<Bad> {
        let mut out = Vec::new();
        for family in
            [self.syntax(), self.cuts(), self.bytes(), self.unknown_keys(), self.types(), self.files()]
        {
            let step = family.len().div_ceil(of_each).max(1);
            out.extend(family.into_iter().step_by(step));
        }
        let starts = [
            "port that is taken",
            "workspace",
            "dies at its start",
            "without auth",
            "network does not know",
            "custom address",
            "mode",
        ];
        let concerns = |bad: &Bad| starts.iter().any(|part| bad.name.contains(part));
        // A second bot is no part of a start that was good, and a model is its agent's business. An agent that is not the
        // default one is started when somebody writes to it.
        let later =
            |bad: &Bad| ["model", "second bot", "new agent"].iter().any(|part| bad.name.contains(part));
        out.extend(self.semantics().into_iter().filter(|bad| concerns(bad) && !later(bad)));
        out
    }

    /// A message without what differs from run to run.
    pub fn plain(&self, text: &str) -> String {
        let home = self.home.display().to_string();
        let text = text.replace(&home, "$HOME").replace(&self.taken.to_string(), "$TAKEN");
        text.replace(&self.good["gateway"]["port"].to_string(), "$PORT").replace(&self.token, "$TOKEN")
    }

    fn syntax(&self) -> Vec<Bad> {
        let lines = SYNTAX.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let text = |line: &str| {
            line.replace("BASE", &self.base).replace("\\n", "\n").replace("\\t", "\t").replace("\\0", "\0")
        };
        lines.map(|line| Bad::text("syntax", line, text(line))).collect()
    }

    fn cuts(&self) -> Vec<Bad> {
        let step = (self.base.len() / CUTS).max(1);
        (1..self.base.len())
            .step_by(step)
            .map(|at| Bad::text("cut", format!("at byte {at}"), &self.base.as_bytes()[..at]))
            .collect()
    }

    fn bytes(&self) -> Vec<Bad> {
        let base = self.base.as_bytes();
        let with = |middle: &[u8]| [&base[..base.len() / 2], middle, &base[base.len() / 2..]].concat();
        let nested = |depth: usize| format!("{{a: {}1{}}}", "[".repeat(depth), "]".repeat(depth));
        vec![
            Bad::text("bytes", "not UTF-8", with(&[0xff, 0xfe])),
            Bad::text("bytes", "half a character", [base, &[0xe2, 0x82]].concat()),
            Bad::text(
                "bytes",
                "UTF-16",
                self.base.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
            ),
            Bad::text("bytes", "a NUL", with(&[0])),
            Bad::text("bytes", "only NULs", vec![0; 4096]),
            Bad::text("bytes", "only spaces", vec![b' '; 4096]),
            Bad::text("bytes", "nothing", Vec::new()),
            Bad::text("bytes", "deep lists", nested(100_000)),
            Bad::text("bytes", "deep objects", format!("{}1{}", "{a:".repeat(50_000), "}".repeat(50_000))),
            Bad::text("bytes", "open lists", "[".repeat(200_000)),
            Bad::text("bytes", "three megabytes", format!("{}{}", self.base, " ".repeat(3 << 20))),
            Bad::text("bytes", "a long unknown key", format!("{{{:?}: 1}}", "k".repeat(1 << 20))),
        ]
    }

    fn patched(&self, patch: &Value) -> String {
        let mut config = self.good.clone();
        merge(&mut config, patch);
        serde_json::to_string_pretty(&config).expect("JSON")
    }

    fn unknown_keys(&self) -> Vec<Bad> {
        let places = [
            "",
            "gateway",
            "gateway.auth",
            "gateway.reload",
            "gateway.controlUi",
            "gateway.http",
            "agents",
            "agents.defaults",
            "agents.defaults.retry",
            "session",
            "session.reset",
            "messages",
            "messages.queue",
            "logging",
            "tools",
            "tools.exec",
            "channels.telegram",
            "channels.defaults",
            "commands",
            "cron",
        ];
        let names = ["prot", "Mode", "__proto"];
        let mut out = Vec::new();
        for place in places {
            for name in names {
                let path: Vec<&str> =
                    place.split('.').filter(|part| !part.is_empty()).chain([name]).collect();
                let patch = path.iter().rev().fold(json!(1), |below, key| json!({ *key: below }));
                out.push(Bad::text("unknown key", path.join("."), self.patched(&patch)));
            }
        }
        out
    }

    fn types(&self) -> Vec<Bad> {
        let made = self.wrong_types.iter();
        made.map(|(path, patch)| Bad::text("wrong type", path.clone(), self.patched(patch))).collect()
    }

    fn semantics(&self) -> Vec<Bad> {
        let file = self.home.join("a-file").display().to_string();
        let home = self.home.display().to_string();
        let lines = SEMANTICS.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let line = line.replace("$TOKEN", &self.token).replace("$TAKEN", &self.taken.to_string());
                let line = line.replace("$FILE", &file).replace("$HOME", &home);
                let row: Value =
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                let name = row["name"].as_str().expect("a name").to_owned();
                Bad::text("semantics", name, self.patched(&row["patch"]))
            })
            .collect()
    }

    fn files(&self) -> Vec<Bad> {
        let including = |name: &'static str, include: &'static str| {
            let base = self.good.clone();
            Bad::act(name, move |path| {
                let dir = path.parent().expect("a directory");
                fs::write(dir.join("loop-a.json5"), "{$include: './loop-b.json5'}").expect("write");
                fs::write(dir.join("loop-b.json5"), "{$include: './loop-a.json5'}").expect("write");
                fs::write(dir.join("broken.json5"), "{gateway: ").expect("write");
                fs::write(dir.join("wrong.json5"), "{gateway: {prot: 1}}").expect("write");
                let mut config = base.clone();
                config["$include"] = json!(include);
                fs::write(path, config.to_string()).expect("write");
            })
        };
        vec![
            Bad::act("nothing at all", |_| {}),
            Bad::act("a directory", |path| fs::create_dir(path).expect("mkdir")),
            Bad::act("a link to itself", |path| symlink(path, path).expect("symlink")),
            Bad::act("a link to nowhere", |path| symlink("/nowhere/at/all", path).expect("symlink")),
            Bad::act("a link to a directory", |path| symlink("/tmp", path).expect("symlink")),
            Bad::act("a link to a device", |path| symlink("/dev/zero", path).expect("symlink")),
            Bad::act("a named pipe", |path| {
                assert!(Command::new("mkfifo").arg(path).status().is_ok_and(|status| status.success()));
            }),
            including("an include that includes itself", "./openclaw.json"),
            including("an include loop", "./loop-a.json5"),
            including("an include that is missing", "./missing.json5"),
            including("an include outside of the directory", "/etc/hostname"),
            including("an include that climbs out", "../../etc/hostname"),
            including("an include that is a directory", "./workspace"),
            including("an include that is broken", "./broken.json5"),
            including("an include with an unknown key", "./wrong.json5"),
        ]
    }
}

/// Each key with the schema's own idea of its type, and a patch that goes against it.
fn walk(node: &Value, path: &mut Vec<String>, out: &mut Vec<(String, Value)>) {
    let options: Vec<&Value> =
        std::iter::once(node).chain(node["anyOf"].as_array().into_iter().flatten()).collect();
    if !path.is_empty()
        && let Some(wrong) = wrong_value(&options)
    {
        let patch = path.iter().rev().fold(wrong, |below, key| match key.as_str() {
            "[]" => json!([below]),
            "*" => json!({"any": below}),
            key => json!({ key: below }),
        });
        out.push((path.join("."), patch));
    }
    for option in options {
        for (key, child) in option["properties"].as_object().into_iter().flatten() {
            step(child, key, path, out);
        }
        for (place, key) in [("items", "[]"), ("additionalProperties", "*")] {
            if option[place].is_object() {
                step(&option[place], key, path, out);
            }
        }
    }
}

fn step(child: &Value, key: &str, path: &mut Vec<String>, out: &mut Vec<(String, Value)>) {
    path.push(key.to_owned());
    walk(child, path, out);
    path.pop();
}

/// A value of a type that none of the options allows; `None` where anything goes.
fn wrong_value(options: &[&Value]) -> Option<Value> {
    let types: Vec<&str> = options.iter().filter_map(|option| option["type"].as_str()).collect();
    let literals = options.iter().any(|option| option["enum"].is_array());
    if types.is_empty() && !literals {
        return None;
    }
    let candidates = [
        ("boolean", json!(true)),
        ("number", json!(1.5)),
        ("array", json!([[["x"]]])),
        ("object", json!({"\u{1}": 1})),
        ("string", json!("x")),
    ];
    let allowed = |name: &str| types.contains(&name) || (literals && name != "object" && name != "array");
    candidates.into_iter().find(|(name, _)| !allowed(name)).map(|(_, value)| value)
}
