//! The public side: one port for HTTP and WebSocket, who is let in, and what goes out to whom.
//!
//! Runs on a runtime of its own; it talks to the core only by handles. Nothing here decides about runs,
//! sessions or channels, and nothing here parses what a model or a chat network wrote.

pub mod accept;
pub mod auth;
pub mod caller;
pub mod carry;
pub mod connect;
pub mod control;
pub mod device;
pub mod fanout;
pub mod frame;
pub mod frame_io;
pub mod handshake;
pub mod hello;
pub mod limits;
pub mod net;
pub mod origin;
pub mod outq;
pub mod pairing;
pub mod presence;
pub mod rebind;
pub mod render;
pub mod scope;
pub mod secret;
pub mod settings;
pub mod shared;
pub mod slots;
pub mod ws;
