//! What the gateway does, through its real processes and sockets. One file per subject.

mod acceptance;
mod agent;
mod agent_worker;
mod channel_worker;
mod chat;
mod clients;
mod config;
mod faults;
mod instances;
mod logs;
mod page;
mod recovery;
mod sessions;
mod setup;
mod status;
mod telegram;
mod telegram_double;
mod wire;
