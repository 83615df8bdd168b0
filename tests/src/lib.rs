//! The harness: what the tests that cross a process are made of, by noun.
//!
//! Doubles of other people's servers, real gateways and clients. Nothing here is shipped.

pub mod agent_worker;
pub mod bench;
pub mod channel_worker;
pub mod escape;
pub mod executables;
pub mod gateway;
pub mod http;
pub mod ledger;
pub mod matrix;
pub mod model_server;
pub mod npm_clients;
pub mod oracle;
pub mod secrets;
pub mod small_disk;
pub mod telegram_server;
pub mod upgrade_load;
pub mod wait;
pub mod ws_client;
