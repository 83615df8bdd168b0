use super::*;
use crate::front::auth::AuthMode;
use crate::front::net::{HeadFacts, Proxies};
use crate::front::pairing::Approver;
use crate::front::scope;
use crate::front::settings::AuthEnvironment;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

const NOW: i64 = 1_795_339_000_000;
const NONCE: &str = "nonce-1";
const PAGE: &str = "openclaw-control-ui";

struct Case {
    connect: ConnectParams,
    settings: Settings,
    peer: Peer,
    book: Book,
    locked: Option<u64>,
}

fn peer(ip: &str, host: &str, origin: Option<&str>) -> Peer {
    let head = HeadFacts { host: Some(host.into()), origin: origin.map(Into::into), ..HeadFacts::default() };
    Peer::resolve(ip.parse().unwrap(), head, &Proxies::default())
}

fn local_page() -> Peer {
    peer("127.0.0.1", "localhost:1", Some("http://localhost:1"))
}

fn case(id: &str, mode: &str, token: Option<&str>) -> Case {
    let config = json!({ "gateway": { "auth": { "token": "tok" } } });
    let (id, mode) = (id.to_owned(), mode.to_owned());
    let client = Client { id, mode, version: "1".into(), platform: "linux".into(), ..Client::default() };
    Case {
        connect: ConnectParams {
            min_protocol: 3,
            max_protocol: 4,
            client,
            scopes: vec![scope::ADMIN.into(), scope::READ.into()],
            token: token.map(Into::into),
            ..ConnectParams::default()
        },
        settings: Settings::from_config(&config, &AuthEnvironment::default()),
        peer: peer("127.0.0.1", "127.0.0.1:18789", None),
        book: Book::default(),
        locked: None,
    }
}

impl Case {
    fn at(self, peer: Peer) -> Self {
        Self { peer, ..self }
    }

    fn edit(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn sign(&mut self) -> &mut Self {
        let key = SigningKey::from_bytes(&[9; 32]);
        let raw = key.verifying_key().to_bytes();
        let mut claim = device::DeviceClaim {
            id: device::fingerprint(&raw),
            public_key: URL_SAFE_NO_PAD.encode(raw),
            signature: String::new(),
            signed_at_ms: NOW,
            nonce: NONCE.into(),
        };
        let line = device::payload(device::PayloadForm::V3, &claim, &self.connect.signed_fields());
        claim.signature = URL_SAFE_NO_PAD.encode(key.sign(line.as_bytes()).to_bytes());
        self.connect.device = Some(claim);
        self
    }

    fn admit(&self) -> Result<Admission, Refusal> {
        let at = Circumstances {
            settings: &self.settings,
            peer: &self.peer,
            header: &|_| None,
            nonce: NONCE,
            now_ms: NOW,
            book: &self.book,
            secret_locked_ms: self.locked,
            device_locked_ms: None,
        };
        admit(&self.connect, &at)
    }

    fn pair(&mut self, role: Role, scopes: &[&str]) -> String {
        let scopes: Vec<String> = scopes.iter().map(|s| (*s).to_owned()).collect();
        let claim = self.connect.device.clone().unwrap();
        let device = ProvenDevice { id: claim.id.clone(), public_key: claim.public_key };
        let wanted = ask(&self.connect, role, &scopes, &device, &self.peer);
        let id = self.book.request(&wanted, true, "r", NOW).request_id;
        let all: Vec<String> = scope::ALL.iter().map(|s| (*s).to_owned()).collect();
        self.book.approve(&id, Approver { scopes: &all, device_id: None }, NOW).unwrap();
        self.book.token_for(&claim.id, role, &scopes, NOW).unwrap().unwrap().token
    }
}

fn show(result: Result<Admission, Refusal>) -> String {
    match result {
        Ok(a) => {
            let (role, device) = (a.role.as_str(), a.device.is_some());
            let (v, method, scopes, pairing) = (a.protocol, a.method, a.scopes.len(), a.pairing);
            format!("v{v} {role} {method:?} scopes={scopes} device={device} pairing={pairing:?}")
        }
        Err(r) => {
            let details = r.error.details.map(|d| d.to_string()).unwrap_or_default();
            let (code, message, close, counted) = (r.error.code, r.error.message, r.close, r.counted);
            format!(
                "{code} {message:?} close {} {:?} counted={counted:?} {details}",
                close.code, close.reason
            )
        }
    }
}

/// Every refusal and admission of a client without a device.
#[test]
fn clients_without_a_device() {
    let cli = |token| case("cli", "cli", token);
    let ok = Some("tok");
    let cases = [
        ("cli, token", cli(ok)),
        ("backend, token", case("gateway-client", "backend", ok)),
        ("probe, token", case("cli", "probe", ok)),
        ("cli, remote", cli(ok).at(peer("192.0.2.7", "gw:18789", None))),
        ("cli, from a page", cli(ok).at(local_page())),
        ("cli, no token", cli(None)),
        ("cli, bad token", cli(Some("bad"))),
        ("cli, locked", cli(ok).edit(|c| c.locked = Some(900))),
        ("page, token", case(PAGE, "webchat", ok).at(local_page())),
        ("page, no origin", case(PAGE, "webchat", ok)),
        (
            "page, device auth off",
            case(PAGE, "webchat", ok).at(local_page()).edit(|c| c.settings.control_ui.no_device_auth = true),
        ),
        ("node", case("node-host", "node", ok).edit(|c| c.connect.role = Some("node".into()))),
        ("odd role", cli(ok).edit(|c| c.connect.role = Some("king".into()))),
        ("old", cli(ok).edit(|c| (c.connect.min_protocol, c.connect.max_protocol) = (1, 2))),
        ("mode none", cli(None).edit(|c| c.settings.auth.mode = AuthMode::None)),
    ];
    let lines: Vec<String> =
        cases.iter().map(|(name, case)| format!("{name}: {}", show(case.admit()))).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// Pairing: who is let through silently, who has to wait.
#[test]
fn clients_with_a_device() {
    let cli = |token| case("cli", "cli", token);
    let ok = Some("tok");
    let page = || case(PAGE, "webchat", ok);
    let container = peer("172.17.0.1", "localhost:1", Some("http://localhost:1"));
    let lan = peer("192.168.1.9", "192.168.1.2:1", Some("http://192.168.1.2:1"));
    let cases = [
        ("cli, new", cli(ok)),
        ("page, new", page().at(local_page())),
        ("page, container port", page().at(container)),
        ("page, lan", page().at(lan)),
        ("other client from a page", case("test", "test", ok).at(local_page())),
        ("cli, tunnel under another name", cli(ok).at(peer("127.0.0.1", "gw.example:1", None))),
        ("cli, remote under a local name", cli(ok).at(peer("192.0.2.7", "localhost:1", None))),
        ("cli, forwarded", cli(ok).edit(|c| c.peer.forwarded = true)),
        ("cli, no silent approval", cli(ok).edit(|c| c.settings.auto_approve_local = false)),
        ("cli, no token", cli(None)),
        ("cli, bad token", cli(Some("bad"))),
        ("cli, wrong device token", cli(None).edit(|c| c.connect.device_token = Some("nope".into()))),
    ];
    let mut lines = Vec::new();
    for (name, mut case) in cases {
        lines.push(format!("{name}: {}", show(case.sign().admit())));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_device_token_opens_but_does_not_raise() {
    let mut known = case("cli", "cli", None);
    known.connect.scopes = vec![scope::READ.into()];
    known.sign();
    let token = known.pair(Role::Operator, &[scope::READ]);
    for in_token in [false, true] {
        (known.connect.token, known.connect.device_token) = (None, None);
        let field = if in_token { &mut known.connect.token } else { &mut known.connect.device_token };
        *field = Some(token.clone());
        let admitted = known.sign().admit().unwrap();
        assert_eq!((admitted.method, admitted.pairing), (AuthMethod::DeviceToken, None));
    }
    known.connect.scopes = vec![scope::ADMIN.into()];
    assert!(known.sign().admit().is_err());
    // with the shared secret on this machine the upgrade is silent
    known.connect.token = Some("tok".into());
    assert_eq!(known.sign().admit().unwrap().pairing, Some((Need::ScopeUpgrade, true)));
    // a role upgrade never is
    known.connect.role = Some("node".into());
    assert_eq!(known.sign().admit().unwrap().pairing, Some((Need::RoleUpgrade, false)));
}

#[test]
fn a_bad_signature_is_reported_before_a_bad_token() {
    let mut case = case("cli", "cli", Some("bad"));
    case.sign();
    case.connect.scopes.clear();
    assert_eq!(case.admit().unwrap_err().error.message, "device signature invalid");
}

#[test]
fn waiting_for_a_person_is_told_in_both_protocols() {
    let mut case = case("cli", "cli", Some("tok"));
    case.sign();
    let claim = case.connect.device.clone().unwrap();
    let device = ProvenDevice { id: claim.id, public_key: claim.public_key };
    let wanted = ask(&case.connect, Role::Node, &[], &device, &peer("192.0.2.7", "gw", None));
    let mut pending = case.book.request(&wanted, false, "req-1", NOW);
    pending.device_id = "dev".into();
    let lines = [3, 4].map(|v| show(Err(pairing_required(Need::NotPaired, &pending, &case.book, v))));
    insta::assert_snapshot!(lines.join("\n"));
}

proptest! {
    /// Scopes without a device only on this machine and without a browser; never without the secret.
    #[test]
    fn authority_needs_a_reason(
        id in 0..5_usize, mode in 0..5_usize, token in proptest::option::of(0..3_usize),
        remote in any::<bool>(), origin in any::<bool>(),
    ) {
        let ids = ["cli", "gateway-client", "test", PAGE, "webchat"];
        let modes = ["cli", "backend", "probe", "webchat", "ui"];
        let page = origin.then_some("http://localhost:1");
        let ip = if remote { "192.0.2.1" } else { "127.0.0.1" };
        let case = case(ids[id], modes[mode], token.map(|t| ["tok", "bad", ""][t])).at(peer(ip, "localhost:1", page));
        if let Ok(admission) = case.admit() {
            prop_assert_eq!(token, Some(0));
            prop_assert!(admission.scopes.is_empty() || (!remote && !origin));
        }
    }
}
