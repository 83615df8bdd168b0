//! Message types of the link between supervisor and workers, and of the control socket.
//!
//! Encoding: every payload is a MessagePack *map* (`rmp_serde::to_vec_named`). To change a message: add a field with
//! `#[serde(default)]`, never rename or retype one; a new message takes a fresh code, codes are never used again.

#[macro_use]
mod registry;
pub mod admin;
pub mod agent;
pub mod channel;
pub mod control;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod id;
pub mod isolation;
pub mod limits;
pub(crate) mod lossy;
pub mod state;
pub mod tool_env;
pub mod version;

pub use error::WireError;
pub use frame::{Flags, Frame, FrameDecoder, FrameError};
pub use id::Id;
pub use lossy::Lossy;
pub use registry::{Class, DecodeError, Wire, decode_payload, encode_payload};
