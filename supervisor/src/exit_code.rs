//! Exit codes, one meaning each. Documented in docs/operations.md.

/// Asked to stop, and did.
pub const OK: u8 = 0;
/// Refused or failed in the foreground; the reason is on stderr.
pub const FAILURE: u8 = 1;
/// `status --check`, `health --check`: something is degraded.
pub const DEGRADED: u8 = 2;
/// The command line is wrong (sysexits `EX_USAGE`).
pub const USAGE: u8 = 64;
/// The supervisor met a state that it must not go on with (`EX_SOFTWARE`).
pub const INTERNAL: u8 = 70;
/// With `--service`: port or lock is taken; trying again later may help (`EX_TEMPFAIL`).
pub const TEMPORARY: u8 = 75;
/// A worker and the supervisor share no protocol version (`EX_PROTOCOL`).
pub const PROTOCOL: u8 = 76;
/// A channel worker was refused by its network: new credentials are needed (`EX_NOPERM`).
pub const LOGIN: u8 = 77;
/// With `--service`: the configuration is invalid; restarting does not help (`EX_CONFIG`).
pub const CONFIG: u8 = 78;
