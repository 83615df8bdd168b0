//! The table of built-in tool names: prompt order, one-line summary, section, default profiles. From it come the groups
//! and profiles of the policy, the lines of the prompt and the answer to `tools.catalog`.
//!
//! A name may stand here before the tool is built, so that a policy can name it; only built ones are offered or listed.

use serde::Serialize;

/// The built-in profiles of `tools.profile`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Only `session_status`.
    Minimal,
    /// Files, processes, memory, sessions, schedules and images.
    Coding,
    /// Messages and the sessions they belong to.
    Messaging,
    /// No restriction.
    Full,
}

impl Profile {
    pub const ALL: [Profile; 4] = [Profile::Minimal, Profile::Coding, Profile::Messaging, Profile::Full];

    pub fn label(self) -> &'static str {
        match self {
            Profile::Minimal => "Minimal",
            Profile::Coding => "Coding",
            Profile::Messaging => "Messaging",
            Profile::Full => "Full",
        }
    }
}

/// One known tool name.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub name: &'static str,
    /// Id of its section; `group:<section>` names all of them in a policy.
    pub section: &'static str,
    pub summary: &'static str,
    profiles: &'static [Profile],
}

const C: &[Profile] = &[Profile::Coding];
const CM: &[Profile] = &[Profile::Coding, Profile::Messaging];
const M: &[Profile] = &[Profile::Messaging];
const STATUS: &[Profile] = &[Profile::Minimal, Profile::Coding, Profile::Messaging];
const NONE: &[Profile] = &[];

const fn known(
    name: &'static str,
    section: &'static str,
    summary: &'static str,
    profiles: &'static [Profile],
) -> Known {
    Known { name, section, summary, profiles }
}

/// Every known name, in the order of the prompt's tool list. `grep`, `find` and `ls` only read, so that they belong to the files.
pub const KNOWN: &[Known] = &[
    known("read", "fs", "Read file contents", C),
    known("write", "fs", "Create or overwrite files", C),
    known("edit", "fs", "Make precise edits to files", C),
    known("apply_patch", "fs", "Apply multi-file patches", C),
    known("grep", "fs", "Search file contents for patterns", C),
    known("find", "fs", "Find files by glob pattern", C),
    known("ls", "fs", "List directory contents", C),
    known("exec", "runtime", "Run shell commands", C),
    known("process", "runtime", "Manage background exec sessions", C),
    known("web_search", "web", "Search the web", NONE),
    known("web_fetch", "web", "Fetch and extract readable content from a URL", NONE),
    known("browser", "ui", "Control a web browser", NONE),
    known("canvas", "ui", "Present, evaluate and snapshot the canvas", NONE),
    known("nodes", "nodes", "List and use paired nodes", NONE),
    known("cron", "automation", "Manage scheduled jobs and wake events", C),
    known("message", "messaging", "Send messages and channel actions", M),
    known("gateway", "automation", "Restart, configure or update the gateway", NONE),
    known("agents_list", "agents", "List agents that may be spawned", NONE),
    known("sessions_list", "sessions", "List other sessions", CM),
    known("sessions_history", "sessions", "Read the history of another session", CM),
    known("sessions_send", "sessions", "Send a message to another session", CM),
    known("subagents", "sessions", "List, steer or stop sub-agents of this session", C),
    known("session_status", "sessions", "Show the session's status card", STATUS),
    known("image", "media", "Analyse an image with the image model", C),
    known("memory_get", "memory", "Read memory files", C),
    known("memory_search", "memory", "Search memory", C),
    known("sessions_spawn", "sessions", "Start a sub-agent session", C),
    known("tts", "media", "Turn text into speech", NONE),
];

/// Section ids with their labels, in the order of `tools.catalog`.
pub const SECTIONS: &[(&str, &str)] = &[
    ("fs", "Files"),
    ("runtime", "Runtime"),
    ("web", "Web"),
    ("memory", "Memory"),
    ("sessions", "Sessions"),
    ("ui", "UI"),
    ("messaging", "Messaging"),
    ("automation", "Automation"),
    ("nodes", "Nodes"),
    ("agents", "Agents"),
    ("media", "Media"),
];

impl Known {
    /// The profiles that admit it; `full` admits everything and is not listed.
    pub fn profiles(&self) -> &'static [Profile] {
        self.profiles
    }
}

/// The entry of a name, which must be normalised already.
pub fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// Answer of `tools.catalog` (wire protocol 3 and 4, `ToolsCatalogResult`).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Catalog {
    pub agent_id: String,
    pub profiles: Vec<CatalogProfile>,
    pub groups: Vec<CatalogGroup>,
}

#[derive(Debug, Clone, Serialize)]
pub struct CatalogProfile {
    pub id: Profile,
    pub label: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct CatalogGroup {
    pub id: &'static str,
    pub label: &'static str,
    /// Always `core` until plugins bring tools.
    pub source: &'static str,
    pub tools: Vec<CatalogTool>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CatalogTool {
    pub id: &'static str,
    pub label: &'static str,
    pub description: &'static str,
    pub source: &'static str,
    pub default_profiles: &'static [Profile],
}

/// The catalog of the tools named in `built`; sections without one are left out.
pub fn catalog(agent_id: &str, built: &[&str]) -> Catalog {
    let groups = SECTIONS.iter().map(|(id, label)| CatalogGroup {
        id,
        label,
        source: "core",
        tools: KNOWN
            .iter()
            .filter(|known| known.section == *id && built.contains(&known.name))
            .map(|known| CatalogTool {
                id: known.name,
                label: known.name,
                description: known.summary,
                source: "core",
                default_profiles: known.profiles,
            })
            .collect(),
    });
    Catalog {
        agent_id: agent_id.to_owned(),
        profiles: Profile::ALL.iter().map(|p| CatalogProfile { id: *p, label: p.label() }).collect(),
        groups: groups.filter(|group| !group.tools.is_empty()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalog_has_the_shape_clients_expect() {
        let built: Vec<&str> = ["session_status", "exec", "read", "ls"].to_vec();
        insta::with_settings!({ prepend_module_to_snapshot => false }, {
            insta::assert_json_snapshot!("catalog", catalog("main", &built));
        });
    }

    #[test]
    fn every_section_has_a_label_and_every_name_one_entry() {
        for known in KNOWN {
            assert!(SECTIONS.iter().any(|(id, _)| *id == known.section), "{}", known.name);
            assert_eq!(KNOWN.iter().filter(|other| other.name == known.name).count(), 1);
        }
    }
}
