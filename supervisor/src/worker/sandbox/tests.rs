use super::*;
use serde_json::json;

fn rules(id: &WorkerId, config: &Value, workspace: Option<&str>) -> Policy {
    let env: Environment = [
        ("PATH", "/usr/bin:/home/u:/home/u/bin:/:relative"),
        ("HTTPS_PROXY", "http://user:pass@proxy:3128"),
        ("XDG_RUNTIME_DIR", "/run/user/7"),
    ]
    .into_iter()
    .collect();
    let place = Place {
        worker: id,
        home: Path::new("/home/u"),
        state_dir: Path::new("/home/u/.openclaw"),
        config_file: Path::new("/home/u/.openclaw/openclaw.json"),
        workspace: workspace.map(Path::new),
        env: &env,
    };
    let own = config.pointer("/agents/list/0");
    policy(&place, config, config, own)
}

fn opens(paths: &[String], path: &str) -> bool {
    paths.iter().any(|open| Path::new(path).starts_with(open))
}

#[test]
fn an_agent_has_its_own_and_what_it_was_given() {
    let config = json!({
        "agents": {"list": [{"id": "sales", "isolation": {"readOnly": ["~/repos"], "readWrite": ["/data/out"]}}]},
        "models": {"providers": {"x": {"baseUrl": "http://127.0.0.1:9999/v1"}}},
    });
    let policy = rules(&WorkerId::agent("sales"), &config, Some("/home/u/.openclaw/workspace-sales"));
    let tool = policy.tool.clone().unwrap();
    for path in ["/home/u/.openclaw/workspace-sales/a", "/data/out/x", "/home/u/.openclaw/tmp/agent_sales/x"]
    {
        assert!(opens(&tool.read_write, path) || tool.temp == "/home/u/.openclaw/tmp/agent_sales", "{path}");
    }
    for path in [
        "/home/u/repos/x",
        "/home/u/bin/tool",
        "/home/u/.openclaw/media/telegram-a/x",
        "/home/u/.cargo/bin/cargo",
    ] {
        assert!(opens(&tool.read_only, path) && !opens(&tool.read_write, path), "{path}");
    }
    for path in [
        "/home/u/.openclaw/openclaw.json",
        "/home/u/.openclaw/openclaw.db",
        "/home/u/.openclaw/agents/sales/sessions/x.jsonl",
        "/home/u/.openclaw/agents/main/agent/auth-profiles.json",
        "/home/u/.openclaw/workspace/x",
        "/home/u/.ssh/id",
        "/home/u/.cargo/credentials.toml",
    ] {
        assert!(!opens(&tool.read_only, path) && !opens(&tool.read_write, path), "{path}");
    }
    assert!(opens(&policy.read_write, "/home/u/.openclaw/agents/sales/sessions/x.jsonl"));
    assert!(!opens(&policy.read_write, "/home/u/.openclaw/agents/main/x"));
    let ports = policy.ports.unwrap();
    assert!([443, 9999, 3128].iter().all(|port| ports.contains(port)) && !ports.contains(&22));
    let limits = (tool.network, tool.memory_mb, tool.cpu_seconds, tool.processes);
    assert_eq!(limits, (false, 2048, 600, 256));
}

#[test]
fn a_channel_has_one_account_and_no_tools() {
    let config =
        json!({"channels": {"telegram": {"tokenFile": "/run/secrets/bot", "apiRoot": "http://[::1]:81/x"}}});
    let policy = rules(&WorkerId::channel("telegram", "main"), &config, None);
    assert!(policy.tool.is_none());
    assert!(opens(&policy.read_write, "/home/u/.openclaw/media/telegram-main/x"));
    assert!(!opens(&policy.read_write, "/home/u/.openclaw/media/telegram-other/x"));
    assert!(policy.read_only.contains(&"/run/secrets/bot".to_owned()));
    assert!(policy.read_write.contains(&"/run/user/7/openclaw".to_owned()));
    assert!(policy.ports.unwrap().contains(&81));
}

#[test]
fn commands_with_network_may_use_any_port() {
    let config = json!({"agents": {"list": [{"id": "a", "isolation": {"network": true}}]}});
    assert_eq!(rules(&WorkerId::agent("a"), &config, Some("/w")).ports, None);
}

#[test]
fn a_report_counts_as_far_as_the_kernel_agrees() {
    let report = SandboxReport {
        no_new_privs: true,
        dumpable: false,
        landlock_abi: 7,
        seccomp: true,
        tier: Tier::T2,
        canary_refused: Some(true),
        missing: Vec::new(),
    };
    let seen = Seen { no_new_privs: true, seccomp: true, closed: Some(true) };
    let tier = |report: &SandboxReport, seen| verdict(report, seen).0;
    assert_eq!(tier(&report, Some(seen)), Tier::T2);
    assert_eq!(tier(&report, Some(Seen { closed: None, ..seen })), Tier::T2);
    for lie in [
        Seen { no_new_privs: false, ..seen },
        Seen { seccomp: false, ..seen },
        Seen { closed: Some(false), ..seen },
    ] {
        assert_eq!(tier(&report, Some(lie)), Tier::T0, "{lie:?}");
    }
    assert_eq!(tier(&report, None), Tier::T0);
    let unproven = SandboxReport { canary_refused: None, ..report };
    assert_eq!(tier(&unproven, Some(seen)), Tier::T3);
}
