//! What the gateway does, through its real processes and sockets. One file per subject.

mod agent_worker;
mod channel_worker;
mod chat;
mod instances;
mod recovery;
mod telegram_double;
