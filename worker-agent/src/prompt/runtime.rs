//! The runtime line at the end of the prompt. PURE: facts in, two lines out.

/// What the line names; absent facts are left out.
#[derive(Clone, Debug, Default)]
pub struct RuntimeFacts {
    pub agent: String,
    pub host: Option<String>,
    pub repo: Option<String>,
    pub os: Option<String>,
    pub arch: Option<String>,
    pub version: String,
    pub model: String,
    pub default_model: Option<String>,
    pub shell: Option<String>,
    pub channel: Option<String>,
    pub capabilities: Vec<String>,
    pub thinking: String,
    pub reasoning: String,
}

/// `Runtime: …` and `Reasoning: …`.
pub fn lines(facts: &RuntimeFacts) -> String {
    let mut parts = vec![format!("agent={}", facts.agent)];
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            parts.push(format!("{name}={value}"));
        }
    };
    add("host", facts.host.clone());
    add("repo", facts.repo.clone());
    add(
        "os",
        facts.os.as_ref().map(|os| match &facts.arch {
            Some(arch) => format!("{os} ({arch})"),
            None => os.clone(),
        }),
    );
    add("openclaw", Some(facts.version.clone()));
    add("model", Some(facts.model.clone()));
    add("default_model", facts.default_model.clone());
    add("shell", facts.shell.clone());
    add("channel", facts.channel.clone());
    if facts.channel.is_some() {
        let named = facts.capabilities.join(",");
        add("capabilities", Some(if named.is_empty() { "none".into() } else { named }));
    }
    add("thinking", Some(facts.thinking.clone()));
    let reasoning = if facts.reasoning.is_empty() { "off" } else { &facts.reasoning };
    format!(
        "Runtime: {}\nReasoning: {reasoning} (hidden unless on or stream; change it with /reasoning)",
        parts.join(" | ")
    )
}
