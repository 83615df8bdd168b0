use super::*;
use crate::front::net::{HeadFacts, Proxies};

fn peer(trusted: bool) -> Peer {
    let mut peer = Peer::resolve("127.0.0.1".parse().unwrap(), HeadFacts::default(), &Proxies::default());
    peer.trusted_proxy = trusted;
    peer
}

fn rules(mode: AuthMode) -> AuthRules {
    AuthRules {
        mode,
        token: Secret::new("tok"),
        password: Secret::new("pass"),
        proxy: Some(ProxyRules {
            user_header: "x-user".into(),
            required_headers: vec!["x-verified".into()],
            allow_users: vec!["ada".into()],
        }),
        rate: rate::RateRules::default(),
    }
}

fn none(_: &str) -> Option<String> {
    None
}

fn try_with(mode: AuthMode, token: Option<&str>, password: Option<&str>) -> Result<AuthMethod, AuthFailure> {
    check(&rules(mode), Offered { token, password }, &peer(false), &none)
}

#[test]
fn token_and_password_modes() {
    use AuthMode::{None as Open, Password, Token};
    assert_eq!(try_with(Open, None, None), Ok(AuthMethod::None));
    assert_eq!(try_with(Token, Some("tok"), None), Ok(AuthMethod::Token));
    assert_eq!(try_with(Token, None, Some("tok")), Ok(AuthMethod::Token));
    assert_eq!(try_with(Token, Some("no"), None), Err(AuthFailure::TokenMismatch));
    assert_eq!(try_with(Token, Some("  "), None), Err(AuthFailure::TokenMissing));
    assert_eq!(try_with(Password, Some("pass"), None), Err(AuthFailure::PasswordMissing));
    assert_eq!(try_with(Password, None, Some("pass")), Ok(AuthMethod::Password));
    assert_eq!(try_with(Password, None, Some("tok")), Err(AuthFailure::PasswordMismatch));
    let bare = AuthRules::default();
    let refused = check(&bare, Offered::default(), &peer(false), &none);
    assert_eq!(refused, Err(AuthFailure::TokenNotConfigured));
}

#[test]
fn a_proxy_must_be_trusted_and_name_an_allowed_user() {
    let rules = rules(AuthMode::TrustedProxy);
    let ask = |trusted: bool, headers: &[(&str, &str)]| {
        let owned: Vec<(String, String)> =
            headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let lookup = move |name: &str| owned.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        check(&rules, Offered::default(), &peer(trusted), &lookup).map_err(|e| e.reason().to_owned())
    };
    let good = [("x-user", "ada"), ("x-verified", "1")];
    assert_eq!(ask(true, &good), Ok(AuthMethod::TrustedProxy));
    assert_eq!(ask(false, &good), Err("trusted_proxy_untrusted_source".into()));
    assert_eq!(ask(true, &good[..1]), Err("trusted_proxy_missing_header_x-verified".into()));
    assert_eq!(ask(true, &[("x-verified", "1")]), Err("trusted_proxy_user_missing".into()));
    let stranger = [("x-user", "eve"), ("x-verified", "1")];
    assert_eq!(ask(true, &stranger), Err("trusted_proxy_user_not_allowed".into()));
}

#[test]
fn texts_are_as_recorded() {
    let failures = [
        AuthFailure::TokenMissing,
        AuthFailure::TokenMismatch,
        AuthFailure::TokenNotConfigured,
        AuthFailure::PasswordMissing,
        AuthFailure::PasswordMismatch,
        AuthFailure::PasswordNotConfigured,
        AuthFailure::DeviceTokenMismatch,
        AuthFailure::RateLimited { retry_after_ms: 1 },
        AuthFailure::Proxy("trusted_proxy_user_missing".into()),
    ];
    let mut lines = Vec::new();
    for failure in &failures {
        for (id, mode) in [("cli", "cli"), ("openclaw-control-ui", "webchat"), ("gateway-client", "backend")]
        {
            let text = failure.message(ClientKind::of(id, mode));
            lines.push(format!("{} {} {id}: {text}", failure.code(), failure.reason()));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}
