use super::*;
use crate::config::{ConfigSource, Environment, judge};
use crate::paths::ProfileFlags;
use std::path::Path;
use std::sync::Arc;

const BASE: &str = "{
  gateway: {mode: 'local', port: 5},
  agents: {defaults: {model: 'openrouter/a'}, list: [{id: 'main'}, {id: 'ops', model: 'openrouter/b'}]},
  channels: {telegram: {botToken: '1:a', dmPolicy: 'pairing', accounts: {work: {botToken: '2:b'}}}},
}";

fn snapshot(text: &str) -> ConfigSnapshot {
    let env: Environment = [("HOME", "/h")].into_iter().collect();
    let file = judge(Path::new("/c/openclaw.json"), text, &env);
    ConfigSnapshot::new(Arc::new(file), ConfigSource::File).expect("valid")
}

fn plan(after: &str) -> ConfigPlan {
    let env: Environment = [("HOME", "/h")].into_iter().collect();
    let paths = Paths::resolve(&env, &ProfileFlags::default(), Path::new("/"), |_| false).expect("paths");
    ConfigPlan::of(&snapshot(BASE), &snapshot(after), &paths)
}

/// `path class` of each change and `worker action` of each worker that is not left alone.
fn lines(plan: &ConfigPlan) -> Vec<String> {
    let changes = plan.changes.iter().map(|change| format!("{} {}", change.path, change.class.class()));
    let acts = plan.workers.iter().filter(|worker| worker.action != WorkerAction::Kept);
    changes.chain(acts.map(|worker| format!("{} {:?}", worker.id, worker.action))).collect()
}

#[test]
fn each_change_reaches_as_far_as_it_must() {
    let rows: [(&str, &str, &[&str], Decision); 12] = [
        ("port: 5", "port: 6", &["gateway.port rebind"], Decision::Apply),
        (
            "dmPolicy: 'pairing'",
            "dmPolicy: 'disabled'",
            &["channels.telegram.dmPolicy hot", "channel:telegram:work Told"],
            Decision::Apply,
        ),
        (
            "'2:b'",
            "'3:c'",
            &["channels.telegram.accounts.work.botToken worker-channel", "channel:telegram:work Restart"],
            Decision::Apply,
        ),
        (
            "'openrouter/b'",
            "'openrouter/c'",
            &["agents.list.1.model hot", "agent:main Told", "agent:ops Told"],
            Decision::Apply,
        ),
        (
            "{id: 'ops', ",
            "{id: 'ops', workspace: '/w', ",
            &["agents.list.1.workspace worker-agent", "agent:main Told", "agent:ops Restart"],
            Decision::Apply,
        ),
        (
            "{id: 'main'}, ",
            "{id: 'main'}, {id: 'new'}, ",
            &[
                "agents.list.1.id worker-agent",
                "agents.list.1.model hot",
                "agents.list.2.id worker-agent",
                "agents.list.2.model hot",
                "agent:main Told",
                "agent:new Start",
                "agent:ops Told",
                "channel:telegram:work Told",
            ],
            Decision::Apply,
        ),
        (
            "accounts: {work: {botToken: '2:b'}}",
            "accounts: {}",
            &[
                "channels.telegram.accounts.work.botToken worker-channel",
                "channel:telegram:default Start",
                "channel:telegram:work Stop",
            ],
            Decision::Apply,
        ),
        (
            "mode: 'local'",
            "mode: 'local', tailscale: {resetOnExit: true}",
            &["gateway.tailscale.resetOnExit restart"],
            Decision::Restart,
        ),
        (
            "port: 5}",
            "port: 5}, isolation: {mode: 'off'}",
            &[
                "isolation.mode worker-agent",
                "agent:main Restart",
                "agent:ops Restart",
                "channel:telegram:work Restart",
            ],
            Decision::Apply,
        ),
        (
            "{id: 'ops', ",
            "{id: 'ops', isolation: {network: true}, ",
            &["agents.list.1.isolation.network worker-agent", "agent:main Told", "agent:ops Restart"],
            Decision::Apply,
        ),
        // A port that no agent could reach until now is a looser rule.
        (
            "port: 5}",
            "port: 5}, models: {providers: {near: {baseUrl: 'http://127.0.0.1:7777', models: []}}}",
            &[
                "models.providers.near.baseUrl hot",
                "models.providers.near.models hot",
                "agent:main Restart",
                "agent:ops Restart",
            ],
            Decision::Apply,
        ),
        ("port: 5", "port: 5 /* same */", &[], Decision::Nothing),
    ];
    for (old, new, wanted, decision) in rows {
        let plan = plan(&BASE.replace(old, new));
        assert_eq!(lines(&plan), wanted, "{new}");
        assert_eq!(plan.decide(ReloadMode::Hybrid), decision, "{new}");
    }
}

#[test]
fn the_mode_decides_what_is_done_now() {
    let hot = BASE.replace("'pairing'", "'disabled'");
    let mixed = hot.replace("port: 5", "port: 6");
    let rebind = BASE.replace("port: 5", "port: 6");
    let silent = BASE.replace("port: 5", "port: 5, reload: {mode: 'off'}");
    let decide = |text: &str| {
        let plan = plan(text);
        [ReloadMode::Off, ReloadMode::Hot, ReloadMode::Restart, ReloadMode::Hybrid]
            .map(|mode| plan.decide(mode))
    };
    use Decision::{Apply, ApplyHot, Restart, Wait};
    assert_eq!(decide(&hot), [Wait, Apply, Apply, Apply]);
    assert_eq!(decide(&mixed), [Wait, ApplyHot, Restart, Apply]);
    assert_eq!(decide(&rebind), [Wait, Wait, Restart, Apply]);
    assert_eq!(decide(&silent), [Apply, Apply, Apply, Apply]);
}
