//! Binary `openclaw`: the command line and the gateway's supervisor.
#![allow(dead_code, unused_imports, reason = "until every part is wired into the composition root")]

mod config;
mod control_paths;
mod events;
mod exit_code;
mod front;
mod gateway;
mod http;
mod journal;
mod link;
mod lock;
mod paths;
mod router;
mod rpc;
mod scheduler;
mod worker;

fn main() {}
