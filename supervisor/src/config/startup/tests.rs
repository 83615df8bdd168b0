use super::*;
use crate::config::gateway::AuthMode;
use crate::config::{ConfigSource, judge};
use crate::paths::{Paths, ProfileFlags};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

fn snapshot(text: &str, vars: &[(&str, &str)]) -> ConfigSnapshot {
    let env: Environment = vars.iter().copied().collect();
    let file = judge(Path::new("/u/.openclaw/openclaw.json"), text, &env);
    ConfigSnapshot::new(Arc::new(file), ConfigSource::File)
        .unwrap_or_else(|issues| panic!("{text}: {issues:?}"))
}

fn paths() -> Paths {
    let env: Environment = [("HOME", "/u")].into_iter().collect();
    Paths::resolve(&env, &ProfileFlags::default(), Path::new("/"), |_| false).expect("paths")
}

fn planned(
    text: &str,
    vars: &[(&str, &str)],
    overrides: &Overrides,
    facts: &BindFacts,
) -> Result<StartPlan, Refusal> {
    plan(&snapshot(text, vars), overrides, &paths(), facts)
}

fn flags(port: &str, bind: &str, auth: &str, tailscale: &str) -> Overrides {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Overrides {
        port: some(port),
        bind: some(bind),
        auth: some(auth),
        tailscale: some(tailscale),
        ..Overrides::default()
    }
}

#[test]
fn refusals_have_the_known_texts() {
    let local = "{gateway:{mode:'local'}}";
    let none = Overrides::default();
    let rows: Vec<(&str, Overrides, BindFacts)> = vec![
        ("{}", none.clone(), BindFacts::default()),
        ("{gateway:{mode:'remote'}}", none.clone(), BindFacts::default()),
        (local, flags("abc", "", "", ""), BindFacts::default()),
        (local, flags("0", "", "", ""), BindFacts::default()),
        (local, flags("", "wan", "", ""), BindFacts::default()),
        (local, flags("", "", "magic", ""), BindFacts::default()),
        (local, flags("", "", "", "on"), BindFacts::default()),
        (local, none.clone(), BindFacts { loopback: false, ..BindFacts::default() }),
        ("{gateway:{mode:'local',bind:'custom'}}", none.clone(), BindFacts::default()),
        ("{gateway:{mode:'local',bind:'custom',customBindHost:'::1'}}", none.clone(), BindFacts::default()),
        ("{gateway:{mode:'local',bind:'lan',auth:{mode:'none'}}}", none.clone(), BindFacts::default()),
        (
            "{gateway:{mode:'local',bind:'lan',auth:{mode:'none'},token:'x',remote:{token:'y'}}}",
            none.clone(),
            BindFacts::default(),
        ),
        ("{gateway:{mode:'local',auth:{mode:'password'}}}", none.clone(), BindFacts::default()),
        ("{gateway:{mode:'local',tailscale:{mode:'funnel'}}}", none.clone(), BindFacts::default()),
        (local, flags("", "lan", "", "serve"), BindFacts::default()),
        ("{gateway:{mode:'local',auth:{mode:'trusted-proxy'}}}", none.clone(), BindFacts::default()),
        (
            "{gateway:{mode:'local',auth:{mode:'trusted-proxy'},trustedProxies:['10.0.0.1','127.0.0.0/4']}}",
            none.clone(),
            BindFacts::default(),
        ),
        (
            "{gateway:{mode:'local',auth:{mode:'trusted-proxy'},trustedProxies:['::1']}}",
            none.clone(),
            BindFacts::default(),
        ),
        (
            "{gateway:{mode:'local',auth:{token:'same'}},hooks:{enabled:true,token:'same'}}",
            none,
            BindFacts::default(),
        ),
    ];
    let mut out = String::new();
    for (text, overrides, facts) in rows {
        let refusal = planned(text, &[], &overrides, &facts).expect_err(text);
        let _ = writeln!(out, "{text} [{} / {}]", refusal.exit_code(false), refusal.exit_code(true));
        let _ = writeln!(out, "{}", refusal.message);
        if let Some(log) = refusal.log {
            let _ = writeln!(out, "log: {log}");
        }
        out.push('\n');
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_missing_file_is_named_as_such() {
    let env = Environment::default();
    let file = crate::config::read::read_file(Path::new("/nonexistent/openclaw.json"), &env);
    let snapshot = ConfigSnapshot::new(Arc::new(file), ConfigSource::File).expect("empty is valid");
    let refusal = guard::check_mode(&snapshot, false, Path::new("/a")).expect_err("refused");
    assert_eq!(
        refusal.message,
        "Missing config. Run `openclaw setup` or set gateway.mode=local (or pass --allow-unconfigured)."
    );
    assert!(guard::check_mode(&snapshot, true, Path::new("/a")).is_ok());
}

#[test]
fn port_precedence() {
    let env = |value: &str| [("OPENCLAW_GATEWAY_PORT", value)].into_iter().collect::<Environment>();
    let rows = [
        (Some("1"), "2", Some(3), (1, PortSource::Flag)),
        (None, "2", Some(3), (2, PortSource::Environment)),
        (None, "19001abc", Some(3), (19_001, PortSource::Environment)),
        (None, "0", Some(3), (3, PortSource::Config)),
        (None, "-5", Some(3), (3, PortSource::Config)),
        (None, "x", None, (18_789, PortSource::Default)),
        (None, "", None, (18_789, PortSource::Default)),
    ];
    for (flag, var, file, wanted) in rows {
        assert_eq!(port(flag, &env(var), file, 18_789), Ok(wanted), "{flag:?} {var} {file:?}");
    }
}

#[test]
fn binds_never_fall_back_to_all_interfaces() {
    let tailnet = Some(Ipv4Addr::new(100, 64, 1, 2));
    let rows = [
        ("loopback", BindFacts::default(), "127.0.0.1 + ::1", false),
        ("lan", BindFacts::default(), "0.0.0.0 + ", true),
        ("tailnet", BindFacts { tailnet, ..BindFacts::default() }, "100.64.1.2,127.0.0.1 + ", true),
        ("tailnet", BindFacts::default(), "127.0.0.1 + ::1", false),
        ("auto", BindFacts::default(), "127.0.0.1 + ::1", false),
        ("auto", BindFacts { loopback: false, ..BindFacts::default() }, "0.0.0.0 + ", true),
        ("custom", BindFacts::default(), "10.1.2.3 + ", true),
    ];
    let snapshot = snapshot("{gateway:{customBindHost:'10.1.2.3'}}", &[]);
    let list = |all: &[std::net::IpAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    for (mode, facts, wanted, exposed) in rows {
        let plan = bind::resolve(Some(mode), &snapshot.gateway, &facts).expect(mode);
        assert_eq!(format!("{} + {}", list(&plan.required), list(&plan.optional)), wanted, "{mode}");
        assert_eq!(plan.is_exposed(), exposed, "{mode}");
    }
}

type AuthRow<'a> = (&'a str, &'a [(&'a str, &'a str)], Overrides, AuthMode, Option<&'a str>, Option<&'a str>);

#[test]
fn auth_mode_and_secret_precedence() {
    let token = |value: &str| Overrides { token: Secret::new(value), ..Overrides::default() };
    let env = [("OPENCLAW_GATEWAY_TOKEN", "et"), ("OPENCLAW_GATEWAY_PASSWORD", "ep")];
    let rows: [AuthRow<'_>; 6] = [
        ("", &env[..1], Overrides::default(), AuthMode::Token, Some("et"), None),
        ("", &env, Overrides::default(), AuthMode::Password, Some("et"), Some("ep")),
        ("auth:{token:'ft'}", &env[..1], Overrides::default(), AuthMode::Token, Some("ft"), None),
        ("auth:{token:'ft'}", &env[..1], token("flag"), AuthMode::Token, Some("flag"), None),
        (
            "auth:{mode:'token',password:'fp',token:' '}",
            &env[..1],
            Overrides::default(),
            AuthMode::Token,
            Some("et"),
            Some("fp"),
        ),
        (
            "auth:{token:{source:'env',provider:'default',id:'OTHER'}}",
            &[("OTHER", "ot")],
            Overrides::default(),
            AuthMode::Token,
            Some("ot"),
            None,
        ),
    ];
    for (auth, vars, overrides, mode, token, password) in rows {
        let text = format!("{{gateway:{{mode:'local',{auth}}}}}");
        let plan = planned(&text, vars, &overrides, &BindFacts::default()).expect("plan").auth;
        let shown =
            (plan.mode, plan.token.as_ref().map(Secret::expose), plan.password.as_ref().map(Secret::expose));
        assert_eq!(shown, (mode, token, password), "{auth}");
        assert_eq!(plan.generated, GeneratedToken::No);
        assert!(!format!("{plan:?}").contains("et\""));
    }
}

#[test]
fn a_missing_token_is_generated_and_saved_unless_a_flag_chose_the_mode() {
    let local = "{gateway:{mode:'local'}}";
    let plan = planned(local, &[], &Overrides::default(), &BindFacts::default()).expect("plan").auth;
    assert_eq!((plan.mode, plan.generated), (AuthMode::Token, GeneratedToken::Save));
    let token = plan.token.expect("token");
    assert!(token.expose().len() == 48 && token.expose().chars().all(|c| c.is_ascii_hexdigit()));
    let by_flag = planned(local, &[], &flags("", "", "token", ""), &BindFacts::default()).expect("plan").auth;
    assert_eq!(by_flag.generated, GeneratedToken::KeepInMemory);
    assert_ne!(by_flag.token, Some(token));
}

#[test]
fn an_exposed_page_gets_this_machines_origins_and_never_a_star() {
    let facts = BindFacts { in_container: true, ..BindFacts::default() };
    let local = "{gateway:{mode:'local'}}";
    let plan = planned(local, &[], &flags("5", "lan", "", ""), &facts).expect("plan");
    assert_eq!(plan.allowed_origins, ["http://localhost:5", "http://127.0.0.1:5"]);
    let plan = planned(local, &[], &Overrides::default(), &facts).expect("plan");
    assert_eq!(plan.allowed_origins, Vec::<String>::new());
    assert!(plan.warnings.iter().any(|line| line.contains("--bind lan")), "{:?}", plan.warnings);
    let set = "{gateway:{mode:'local',bind:'lan',controlUi:{allowedOrigins:['https://a.example']}}}";
    let plan = planned(set, &[], &Overrides::default(), &facts).expect("plan");
    assert_eq!(plan.allowed_origins, ["https://a.example"]);
    let none = planned(
        "{gateway:{mode:'local',auth:{mode:'none'}}}",
        &[],
        &Overrides::default(),
        &BindFacts::default(),
    );
    assert!(none.expect("plan").warnings[0].starts_with("Gateway auth mode=none explicitly configured"));
}
