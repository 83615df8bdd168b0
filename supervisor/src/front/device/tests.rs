use super::*;
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

const NOW: i64 = 1_795_339_002_329;
const NONCE: &str = "fb5c7bf9-c404-4c11-831d-9f930978f69a";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn fields() -> SignedFields {
    SignedFields {
        client_id: "cli".into(),
        client_mode: "cli".into(),
        role: "operator".into(),
        scopes: vec!["operator.admin".into(), "operator.read".into()],
        token: "tok".into(),
        platform: " Linux ".into(),
        device_family: String::new(),
    }
}

fn signed(form: PayloadForm, fields: &SignedFields) -> DeviceClaim {
    let raw = key().verifying_key().to_bytes();
    let mut claim = DeviceClaim {
        id: fingerprint(&raw),
        public_key: URL_SAFE_NO_PAD.encode(raw),
        signature: String::new(),
        signed_at_ms: NOW,
        nonce: NONCE.into(),
    };
    claim.signature = URL_SAFE_NO_PAD.encode(key().sign(payload(form, &claim, fields).as_bytes()).to_bytes());
    claim
}

#[test]
fn the_line_is_what_clients_sign() {
    let claim =
        DeviceClaim { id: "ab".into(), signed_at_ms: 12, nonce: "n".into(), ..DeviceClaim::default() };
    assert_eq!(
        payload(PayloadForm::V3, &claim, &fields()),
        "v3|ab|cli|cli|operator|operator.admin,operator.read|12|tok|n|linux|"
    );
    assert_eq!(
        payload(PayloadForm::V2, &claim, &fields()),
        "v2|ab|cli|cli|operator|operator.admin,operator.read|12|tok|n"
    );
}

#[test]
fn both_forms_and_all_encodings_are_accepted() {
    for form in [PayloadForm::V3, PayloadForm::V2] {
        let claim = signed(form, &fields());
        let proven = verify(&claim, &fields(), NONCE, NOW + DEVICE_SKEW_MS).unwrap();
        assert_eq!(proven.id, claim.id);
        let mut pem = claim.clone();
        pem.public_key = {
            use ed25519_dalek::pkcs8::EncodePublicKey as _;
            key()
                .verifying_key()
                .to_public_key_pem(ed25519_dalek::pkcs8::spki::der::pem::LineEnding::LF)
                .unwrap()
        };
        pem.signature = STANDARD.encode(decode_base64(&claim.signature).unwrap());
        assert_eq!(verify(&pem, &fields(), NONCE, NOW), Ok(proven));
    }
}

#[test]
fn each_check_reports_itself_and_earlier_checks_win() {
    let good = signed(PayloadForm::V3, &fields());
    let edit = |change: &dyn Fn(&mut DeviceClaim)| {
        let mut claim = good.clone();
        change(&mut claim);
        verify(&claim, &fields(), NONCE, NOW).unwrap_err()
    };
    assert_eq!(edit(&|c| c.public_key = "garbage".into()), ProofError::IdMismatch);
    assert_eq!(edit(&|c| c.id = "00".into()), ProofError::IdMismatch);
    assert_eq!(edit(&|c| c.signed_at_ms = NOW - DEVICE_SKEW_MS - 1), ProofError::Stale);
    assert_eq!(edit(&|c| c.signed_at_ms = NOW + DEVICE_SKEW_MS + 1), ProofError::Stale);
    assert_eq!(edit(&|c| c.nonce = "  ".into()), ProofError::NonceMissing);
    assert_eq!(edit(&|c| c.nonce = "other".into()), ProofError::NonceMismatch);
    assert_eq!(edit(&|c| c.signature = "AAAA".into()), ProofError::Signature);
    assert_eq!(edit(&|c| c.signed_at_ms = NOW - 1), ProofError::Signature);
    assert_eq!(
        edit(&|c| {
            c.nonce = String::new();
            c.signed_at_ms = 0;
        }),
        ProofError::Stale
    );
}

#[test]
fn codes_are_as_recorded() {
    let all = [
        ProofError::IdMismatch,
        ProofError::Stale,
        ProofError::NonceMissing,
        ProofError::NonceMismatch,
        ProofError::Signature,
    ];
    let table: Vec<String> = all
        .iter()
        .map(|e| format!("{} | {} | {} | {}", e.message(), e.reason(), e.code(3), e.code(4)))
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

proptest! {
    #[test]
    fn no_field_can_be_changed_after_signing(
        scope in "[a-z.,|]{0,12}", token in "[a-z|]{0,8}", role in "[a-z]{0,8}", mode in "[a-z|]{0,5}",
    ) {
        let claim = signed(PayloadForm::V3, &fields());
        let forged = SignedFields { scopes: vec![scope], token, role, client_mode: mode, ..fields() };
        let same = [PayloadForm::V3, PayloadForm::V2].iter().any(|f| payload(*f, &claim, &forged) == payload(*f, &claim, &fields()));
        prop_assert_eq!(verify(&claim, &forged, NONCE, NOW).is_ok(), same);
    }

    #[test]
    fn never_panics(id in ".{0,20}", public_key in ".{0,80}", signature in ".{0,90}", at in any::<i64>(), nonce in ".{0,8}") {
        let claim = DeviceClaim { id, public_key, signature, signed_at_ms: at, nonce };
        prop_assert!(verify(&claim, &fields(), NONCE, NOW).is_err());
    }
}
