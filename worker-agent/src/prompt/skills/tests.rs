use super::*;

fn skill(text: &str) -> Skill {
    parse(text, Path::new("/home/u/ws/skills/x/SKILL.md")).unwrap()
}

const FULL: &str = "---\nname: weather\ndescription: \"Look at <the> sky\"\nhomepage: https://e.org\nmetadata:\n  {\n    \
    \"openclaw\": { \"emoji\": \"🌤\", \"requires\": { \"bins\": [\"curl\"], \"env\": [\"WX_KEY\"], \"config\": \
    [\"channels.telegram.enabled\"], }, \"primaryEnv\": \"WX_KEY\", },\n  }\n---\nBody\n";

#[test]
fn front_matter_with_a_json_block() {
    let skill = skill(FULL);
    assert_eq!((skill.name.as_str(), skill.description.as_str()), ("weather", "Look at <the> sky"));
    assert_eq!(skill.needs().bins, ["curl"]);
    let folded = "---\nname: a\ndescription: >\n  one\n  two\ndisable-model-invocation: true\n---\n";
    let folded = super::parse(folded, Path::new("x")).unwrap();
    assert_eq!((folded.description.as_str(), folded.hidden), ("one two", true));
    assert!(super::parse("---\nname: a\n---\n", Path::new("x")).is_none());
    assert!(super::parse("no front matter", Path::new("x")).is_none());
}

#[test]
fn gating() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("curl"), "").unwrap();
    let skill = skill(FULL);
    let mut settings = SkillSettings::default();
    let env = BTreeMap::new();
    let none = json!({});
    let missing =
        skill.missing(&Surroundings { path: vec![], env: &env, config: &none, settings: &settings });
    assert_eq!(missing.bins, ["curl"]);
    assert_eq!(missing.env, ["WX_KEY"]);
    assert_eq!(missing.config, ["channels.telegram.enabled"]);
    settings
        .entries
        .insert("weather".into(), EntrySettings { api_key: Some(json!("k")), ..EntrySettings::default() });
    let config = json!({"channels": {"telegram": {"enabled": true}}});
    let path = vec![dir.path().into()];
    let around = Surroundings { path, env: &env, config: &config, settings: &settings };
    assert!(skill.missing(&around).is_empty());
    assert!(!skill.disabled(&settings));
}

#[test]
fn later_roots_win_and_the_prompt_is_escaped() {
    let dir = tempfile::tempdir().unwrap();
    for (root, description) in [("managed", "old"), ("ws", "new <one>")] {
        let at = dir.path().join(root).join("demo");
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("SKILL.md"), format!("---\nname: demo\ndescription: {description}\n---\n"))
            .unwrap();
    }
    let roots = [
        (Source::Managed, dir.path().join("managed")),
        (Source::Workspace, dir.path().join("ws")),
        (Source::Extra, dir.path().join("missing")),
    ];
    let skills = scan(&roots, Limits::default());
    assert_eq!(skills.len(), 1);
    let refs: Vec<&Skill> = skills.iter().collect();
    let (text, sizes) = prompt(&refs, dir.path(), Limits::default());
    assert!(text.contains("<description>new &lt;one&gt;</description>"), "{text}");
    assert!(text.contains("<location>~/ws/demo/SKILL.md</location>"), "{text}");
    assert_eq!(sizes.len(), 1);
    let tight = Limits { max_skills_prompt_chars: 10, ..Limits::default() };
    assert!(prompt(&refs, dir.path(), tight).0.starts_with("Only 0 of 1 skills"));
}
