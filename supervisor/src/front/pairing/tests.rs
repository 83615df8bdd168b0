use super::store::Devices;
use super::*;
use proptest::prelude::*;

const NOW: i64 = 1_795_339_000_000;

fn ask(device: &str, role: Role, scopes: &[&str]) -> Ask {
    Ask {
        device: ProvenDevice { id: device.into(), public_key: format!("key-{device}") },
        role,
        scopes: list(scopes),
        facts: DeviceFacts { platform: Some("linux".into()), ..DeviceFacts::default() },
    }
}

fn list(scopes: &[&str]) -> Vec<String> {
    scopes.iter().map(|s| (*s).to_owned()).collect()
}

fn pair(book: &mut Book, ask: &Ask) -> Paired {
    let pending = book.request(ask, true, &format!("r-{}", ask.device.id), NOW);
    let all = list(&scope::ALL);
    book.approve(&pending.request_id, Approver { scopes: &all, device_id: None }, NOW).unwrap()
}

#[test]
fn needs_follow_key_metadata_role_and_scopes() {
    let mut book = Book::default();
    let first = ask("a", Role::Operator, &[scope::WRITE]);
    assert_eq!(book.need(&first), Some(Need::NotPaired));
    pair(&mut book, &first);
    assert_eq!(book.need(&first), None);
    assert_eq!(book.need(&ask("a", Role::Operator, &[scope::READ])), None);
    assert_eq!(book.need(&ask("a", Role::Operator, &[scope::ADMIN])), Some(Need::ScopeUpgrade));
    assert_eq!(book.need(&ask("a", Role::Node, &[])), Some(Need::RoleUpgrade));
    let mut moved = first.clone();
    moved.facts.platform = Some("Darwin".into());
    assert_eq!(book.need(&moved), Some(Need::MetadataUpgrade));
    moved.facts.platform = Some(" LINUX ".into());
    assert_eq!(book.need(&moved), None);
    let mut stolen = first;
    stolen.device.public_key = "other".into();
    assert_eq!(book.need(&stolen), Some(Need::NotPaired));
}

#[test]
fn one_request_per_device_merged_and_expiring() {
    let mut book = Book::default();
    let a = book.request(&ask("a", Role::Operator, &[scope::READ]), true, "r1", NOW);
    let b = book.request(&ask("a", Role::Node, &[scope::WRITE]), false, "r2", NOW + 10);
    assert_eq!((a.request_id.as_str(), b.request_id.as_str()), ("r1", "r1"));
    assert_eq!((b.roles.len(), b.scopes.len(), b.silent), (2, 2, false));
    book.expire(NOW + 10 + PAIRING_TTL_MS);
    assert_eq!(book.pending.len(), 1);
    book.expire(NOW + 11 + PAIRING_TTL_MS);
    assert!(book.pending.is_empty());
    for n in 0..PAIRING_PENDING_MAX + 5 {
        book.request(&ask(&format!("d{n}"), Role::Node, &[]), false, &format!("q{n}"), NOW + n as i64);
    }
    assert_eq!(book.pending.len(), PAIRING_PENDING_MAX);
    assert!(!book.pending.contains_key("q0"));
}

#[test]
fn nobody_gives_what_they_do_not_hold() {
    let mut book = Book::default();
    let wanted = ask("a", Role::Operator, &[scope::ADMIN]);
    let request = book.request(&wanted, false, "r", NOW).request_id;
    let pairing_only = list(&[scope::PAIRING]);
    let weak = Approver { scopes: &pairing_only, device_id: Some("b") };
    assert_eq!(
        book.approve(&request, weak, NOW).err(),
        Some(PairingRefusal::MissingScope(scope::ADMIN.into()))
    );
    pair(&mut book, &wanted);
    let rotated = book.rotate("a", "operator", Some(list(&[scope::READ])), weak, NOW);
    assert_eq!(rotated.err(), Some(PairingRefusal::NotYours));
    assert_eq!(book.revoke("a", "operator", weak, NOW), Err(PairingRefusal::NotYours));
    let own = Approver { scopes: &pairing_only, device_id: Some("a") };
    let raised = book.rotate("a", "operator", Some(list(&[scope::ADMIN])), own, NOW);
    assert_eq!(raised.err(), Some(PairingRefusal::MissingScope(scope::ADMIN.into())));
}

#[test]
fn tokens_are_stable_until_scopes_grow_and_stay_void_once_revoked() {
    let mut book = Book::default();
    let wanted = ask("a", Role::Operator, &[scope::ADMIN]);
    pair(&mut book, &wanted);
    let token =
        |book: &mut Book, scopes: &[&str]| book.token_for("a", Role::Operator, &list(scopes), NOW).unwrap();
    let first = token(&mut book, &[scope::READ]).unwrap();
    assert_eq!(token(&mut book, &[scope::READ]).unwrap().token, first.token);
    let second = token(&mut book, &[scope::WRITE]).unwrap();
    assert_ne!(second.token, first.token);
    assert_eq!(second.scopes, list(&[scope::READ, scope::WRITE]));
    assert!(book.token_is_good(&wanted.device, Role::Operator, &list(&[scope::READ]), &second.token));
    assert!(!book.token_is_good(&wanted.device, Role::Operator, &list(&[scope::ADMIN]), &second.token));
    assert!(!book.token_is_good(&wanted.device, Role::Node, &[], &second.token));
    let admin = list(&[scope::ADMIN]);
    let by = Approver { scopes: &admin, device_id: None };
    book.revoke("a", "operator", by, NOW).unwrap();
    assert!(!book.token_is_good(&wanted.device, Role::Operator, &[], &second.token));
    assert!(token(&mut book, &[scope::READ]).is_none());
    let third = book.rotate("a", "operator", None, by, NOW).unwrap();
    assert!(book.token_is_good(&wanted.device, Role::Operator, &[], &third.token));
    let shown = book.list(|_| true).to_string();
    assert!(!shown.contains(&third.token) && shown.contains("rotatedAtMs"));
}

#[tokio::test]
async fn survives_a_restart_and_keeps_foreign_fields() {
    let dir = tempfile::tempdir().unwrap();
    let devices = Devices::open(dir.path()).unwrap();
    devices.change(|book| pair(book, &ask("a", Role::Operator, &[scope::READ])).device_id).await.unwrap();
    let path = dir.path().join("devices/paired.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    file["a"]["approvedVia"] = "silent".into();
    std::fs::write(&path, file.to_string()).unwrap();
    let again = Devices::open(dir.path()).unwrap();
    assert_eq!(again.read(|b| b.need(&ask("a", Role::Operator, &[scope::READ]))), None);
    again.change(|b| b.request(&ask("b", Role::Node, &[]), false, "r", NOW).ts).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("approvedVia"));
    use std::os::unix::fs::PermissionsExt as _;
    let pending = std::fs::metadata(dir.path().join("devices/pending.json")).unwrap();
    assert_eq!(pending.permissions().mode() & 0o777, 0o600);
}

proptest! {
    #[test]
    fn approval_never_exceeds_the_approver(held in proptest::collection::vec(0..5_usize, 0..4), wanted in proptest::collection::vec(0..5_usize, 0..4)) {
        let mut book = Book::default();
        let held: Vec<String> = held.iter().map(|i| scope::ALL[*i].to_owned()).collect();
        let wanted: Vec<&str> = wanted.iter().map(|i| scope::ALL[*i]).collect();
        let id = book.request(&ask("a", Role::Operator, &wanted), false, "r", NOW).request_id;
        let approved = book.approve(&id, Approver { scopes: &held, device_id: None }, NOW);
        prop_assert_eq!(approved.is_ok(), scope::covers_all(&held, &list(&wanted)));
    }
}
