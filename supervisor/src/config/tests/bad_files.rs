//! What people see for a wrong file: every row is a file and the lines printed for it.

use super::{judged, lines};
use std::fmt::Write as _;

const BAD: &[&str] = &[
    "",
    "[]",
    "{bad json",
    "{\n  gateway: {\n    port: 18789\n    bind: 'lan'\n  }\n}",
    "{\n  \"gateway\": {\n    \"port\": \"x\"\n  }\n}",
    "{ gateway: { port: 0 } }",
    "{ gateway: { port: 70000 } }",
    "{ gateway: { port: 1.5 } }",
    "{ gateway: { prot: 1 } }",
    "{ gatway: {} }",
    "{ nope: 1 }",
    "{ port: 1 }",
    "{ gateway: { bind: 'lann' } }",
    "{ gateway: { bind: true } }",
    "{ gateway: { mode: 'locl' } }",
    "{ gateway: [] }",
    "{ gateway: { auth: { token: 5 } } }",
    "{ gateway: { auth: { mode: 'tokens' } } }",
    "{ gateway: { auth: { token: '${NOT_SET}' } } }",
    "{ gateway: { auth: { rateLimit: { maxAttempt: 3 } } } }",
    "{ gateway: { controlUi: { allowedOrigins: 'http://x' } } }",
    "{ gateway: { host: '0.0.0.0' } }",
    "{ gateway: { tls: { enabled: true } } }",
    "{ gateway: { reload: { mode: 'warm' } } }",
    "{ agents: { list: [ { id: 'a' }, { id: 'A' } ] } }",
    "{ agents: { list: [ { name: 'x' } ] } }",
    "{ agents: { list: [ { id: 'a', agentDir: '/d' }, { id: 'b', agentDir: '/d' } ] } }",
    "{ agents: { defaults: { retry: { maxRetry: 3 } } } }",
    "{ agents: { defaults: { retry: { backoff: 'exp' } } } }",
    "{ agents: { defaults: { maxConcurrent: 0 } } }",
    "{ agents: { workspace: '/w' } }",
    "{ channels: { telegrm: {} } }",
    "{ channels: { telegram: { dmPolicy: 'open' } } }",
    "{ channels: { telegram: { dmPolicy: 'opn' } } }",
    "{ channels: { telegram: { token: 'x' } } }",
    "{ channels: { telegram: { accounts: { a: { botToken: '1:x' }, b: { botToken: '1:x' } } } } }",
    "{ bindings: [ { agentId: 'x' } ] }",
    "{ hooks: { enabled: true } }",
    "{ hooks: { enabled: true, token: 't', path: '/' } }",
    "{ hooks: { enabled: true, token: 't', allowedSessionKeyPrefixes: ['x:'] } }",
    "{ hooks: { enabled: true, token: 't', defaultSessionKey: 'y', allowedSessionKeyPrefixes: ['x:'] } }",
    "{ tools: { loopDetection: { warningThreshold: 40 } } }",
    "{ models: { providers: { x: { baseURL: 'u', apiKey: 5 } } } }",
    "{ session: { dmScope: 'peer', reset: { atHour: 30 } } }",
    "{ $include: 'gone.json' }",
    "{ logging: { level: 'loud', consoleStyle: null } }",
    "{ oauth: { providers: { g: { clientID: 'x' } } } }",
    "{ messages: { queue: { mode: 'a very long value that nobody wants to see repeated in full' } } }",
];

#[test]
fn every_refusal_names_place_and_remedy() {
    let mut out = String::new();
    for text in BAD {
        let file = judged(text, &[]);
        assert!(!file.is_valid(), "must be refused: {text}");
        let _ = writeln!(out, "{text}\n--\n{}\n", lines(&file.findings.issues));
    }
    insta::assert_snapshot!(out);
}
