//! The harness: what the tests that cross a process are made of, by noun.
//!
//! Doubles of other people's servers, and later real gateways, clients and oracles. Nothing here is shipped.

pub mod agent_worker;
pub mod channel_worker;
pub mod executables;
pub mod gateway;
pub mod http;
pub mod model_server;
pub mod telegram_server;
pub mod wait;
pub mod ws_client;
