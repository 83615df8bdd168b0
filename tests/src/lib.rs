//! The harness: what the tests that cross a process are made of, by noun.
//!
//! Doubles of other people's servers, and later real gateways, clients and oracles. Nothing here is shipped.

pub mod telegram_server;
