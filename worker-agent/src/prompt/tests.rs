use super::bootstrap::{Caps, Found, fit};
use super::report::{Report, SessionTokens, SkillSize, SkillSizes, ToolSize};
use super::user_turn::{Front, compose, stamped};
use super::*;
use crate::session::visible::user_text;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use proto::wire::agent::RunInput;
use std::path::PathBuf;

fn found(name: &str, content: Option<&str>) -> Found {
    Found { name: name.into(), path: PathBuf::from("/ws").join(name), content: content.map(str::to_owned) }
}

fn input() -> PromptInput {
    let files = vec![
        found("AGENTS.md", Some("Be kind.\n")),
        found("SOUL.md", Some("A fox.")),
        found("USER.md", None),
    ];
    PromptInput {
        tools: vec![
            ToolLine { name: "read".into(), summary: "Read file contents".into() },
            ToolLine { name: "session_status".into(), summary: "Show the session's status card".into() },
        ],
        skills: "<available_skills>\n</available_skills>".into(),
        aliases: vec![("kimi".into(), "openrouter/moonshotai/kimi-k2.5".into())],
        time_zone: Some("Europe/Berlin".into()),
        workspace: "/ws".into(),
        group: true,
        extra: Some("Answer in German.".into()),
        files: fit(files, Caps::resolve(None, None)).0,
        runtime: runtime::lines(&runtime::RuntimeFacts {
            agent: "main".into(),
            host: Some("box".into()),
            os: Some("Linux 6.1".into()),
            arch: Some("x86_64".into()),
            version: "0.1.0".into(),
            model: "demo/demo".into(),
            channel: Some("telegram".into()),
            thinking: "off".into(),
            ..runtime::RuntimeFacts::default()
        }),
        ..PromptInput::default()
    }
}

#[test]
fn full_prompt() {
    insta::assert_snapshot!(build(&input()).text);
}

#[test]
fn a_sub_agent_gets_less_and_none_gets_one_line() {
    let minimal = build(&PromptInput { mode: Mode::Minimal, ..input() }).text;
    let headings: Vec<&str> = minimal.lines().filter(|line| line.starts_with('#')).collect();
    insta::assert_snapshot!(headings.join("\n"));
    assert_eq!(build(&PromptInput { mode: Mode::None, ..input() }).text.lines().count(), 1);
}

#[test]
fn a_long_file_keeps_head_and_tail() {
    let text: String = ('a'..='z').cycle().take(30_000).collect();
    let (files, warnings) =
        fit(vec![found("SOUL.md", Some(&text))], Caps::resolve(Some(20_000), Some(100_000)));
    let content = &files[0].content;
    assert!(content.starts_with(&text[..14_000]) && content.ends_with(&text[26_000..]));
    assert!(content.contains("[...truncated, read SOUL.md for full content...]"));
    assert!(content.contains("…(truncated SOUL.md: kept 14000+4000 chars of 30000)…"));
    assert_eq!(warnings.len(), 1);
}

#[test]
fn one_figure_caps_the_sum_as_well() {
    assert_eq!(Caps::resolve(Some(40_000), None), Caps { file: 40_000, total: 40_000 });
    assert_eq!(Caps::resolve(None, None), Caps { file: 20_000, total: 150_000 });
    let long = "x".repeat(30_000);
    let files = ["AGENTS.md", "SOUL.md", "TOOLS.md"].map(|name| found(name, Some(&long)));
    let (files, warnings) = fit(files.to_vec(), Caps::resolve(Some(40_000), None));
    let total: usize = files.iter().map(|file| file.content.chars().count()).sum();
    assert!(total <= 40_000 && total > 38_000, "{total}");
    assert!(warnings.iter().any(|warning| warning.contains("total cap")), "{warnings:?}");
}

proptest! {
    #[test]
    fn the_caps_hold_for_any_files(
        texts in proptest::collection::vec(proptest::option::of("[aü€🦊\n]{0,400}"), 0..8),
        file in 1..500_usize,
        total in 1..1500_usize,
    ) {
        let files = texts.iter().map(|text| found("AGENTS.md", text.as_deref())).collect();
        let (files, _) = fit(files, Caps { file, total });
        let sum: usize = files.iter().map(|file| file.content.chars().count()).sum();
        prop_assert!(sum <= total);
    }

    /// What the composer puts in front, the display takes away.
    #[test]
    fn the_words_come_back(words in "[a-zäö.!?`]{1,10}[a-zäö .!?`]{0,40}", stamp in any::<bool>(), note in any::<bool>()) {
        let input = RunInput {
            text: words.clone(),
            ts_ms: 1_770_000_000_000,
            context_json: Some(r#"{"reply":{"body":"``` [x] \n---"},"message_id":"7"}"#.into()),
            ..RunInput::default()
        };
        let events = ["gateway restarted".to_owned()];
        let front = Front { system_events: &events, note: note.then_some("the last run was stopped"), zone: None, stamp };
        let composed = compose(&[input], None, &front);
        prop_assert_eq!(user_text(&composed), words);
    }
}

#[test]
fn stamps_are_local_and_not_doubled() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    assert_eq!(stamped("hi", 1_770_000_000_000, Some(&zone)), "[Mon 2026-02-02 03:40 CET] hi");
    assert_eq!(stamped("[2026-02-02 03:40] hi", 1_770_000_000_000, Some(&zone)), "[2026-02-02 03:40] hi");
}

#[test]
fn several_waiting_messages_become_one_turn() {
    let input = |inbound_seq, text: &str| RunInput { inbound_seq, text: text.into(), ..RunInput::default() };
    let dropped = input(0, "[Queue overflow] Dropped 1 message due to cap.");
    insta::assert_snapshot!(compose(&[dropped, input(7, "one"), input(9, "two")], None, &Front::default()));
}

#[test]
fn context_report() {
    let long = "x".repeat(30_000);
    let files = vec![
        found("AGENTS.md", Some("Be kind.")),
        found("SOUL.md", Some(&long)),
        found("HEARTBEAT.md", None),
    ];
    let caps = Caps::resolve(None, None);
    let files = fit(files, caps).0;
    let prompt = build(&PromptInput { files: files.clone(), ..input() });
    let report = Report {
        source: "run".into(),
        workspace_dir: "/ws".into(),
        skills: SkillSizes {
            prompt_chars: 2310,
            entries: vec![SkillSize { name: "weather".into(), block_chars: 200 }],
        },
        tools: report::ToolSizes {
            list_chars: 0,
            schema_chars: 24_100,
            entries: vec![
                ToolSize { name: "read".into(), summary_chars: 18, schema_chars: 300, properties_count: 3 },
                ToolSize { name: "exec".into(), summary_chars: 18, schema_chars: 900, properties_count: 9 },
            ],
        },
        ..Report::default()
    }
    .measure(&prompt, &files, caps, 17);
    let tokens = SessionTokens { total: Some(14_250), context: Some(131_072), ..SessionTokens::default() };
    // The size of our own texts is not what this is about.
    let fixed = |text: String| {
        text.lines().filter(|line| !line.starts_with("System prompt")).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!("context_list", fixed(report::text(&report, tokens, false)));
    insta::assert_snapshot!("context_detail", fixed(report::text(&report, SessionTokens::default(), true)));
    assert_eq!(report::json(&report, tokens)["session"]["totalTokens"], 14_250);
    assert_eq!(report::thousands(1_234_567), "1,234,567");
}
