//! The type registry: which code means which message, and in which class it travels.

use serde::{Serialize, de::DeserializeOwned};

/// How a frame is treated by flow control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Needs no credit and overtakes the rest; few and small (ping, credit, cancel, pause, handshake).
    Control = 0,
    /// Never dropped; its sender waits for credit.
    Durable = 1,
    /// May be merged with its successor while it waits for credit.
    Lossy = 2,
}

/// Why a payload could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("message code {0:#06x} is not known in this direction")]
    UnknownCode(u16),
    #[error("message {code:#06x} is malformed: {detail}")]
    Malformed { code: u16, detail: String },
    #[error("message {code:#06x} has {extra} bytes after its end")]
    Trailing { code: u16, extra: usize },
}

/// A message that knows its code and class. Implemented by the direction enums that `wire_enum!` makes.
pub trait Wire: Sized + Send + 'static {
    fn code(&self) -> u16;
    fn class(&self) -> Class;
    /// Payload as a MessagePack map.
    fn encode(&self) -> Vec<u8>;
    fn decode(code: u16, payload: &[u8]) -> Result<Self, DecodeError>;
    /// Every `(code, name, class)` of this direction, in code order.
    fn registry() -> &'static [(u16, &'static str, Class)];
}

/// Nesting that a decoder follows before it refuses a payload.
const DEPTH_MAX: usize = 32;

/// Encodes one payload as a map with field names.
pub fn encode_payload<T: Serialize>(value: &T) -> Vec<u8> {
    // Message types hold only strings, integers, bytes and lists: none of them has a failing `Serialize`.
    rmp_serde::to_vec_named(value).unwrap_or_default()
}

/// Decodes one payload and requires that it is consumed to its last byte.
pub fn decode_payload<T: DeserializeOwned>(code: u16, payload: &[u8]) -> Result<T, DecodeError> {
    let mut cursor = std::io::Cursor::new(payload);
    let mut deserializer = rmp_serde::Deserializer::new(&mut cursor);
    deserializer.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(&mut deserializer)
        .map_err(|error| DecodeError::Malformed { code, detail: error.to_string() })?;
    let extra = payload.len().saturating_sub(cursor.position() as usize);
    if extra > 0 {
        return Err(DecodeError::Trailing { code, extra });
    }
    Ok(value)
}

/// Declares one direction of a conversation: `code class Variant(Payload)`.
macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $code:literal $class:ident $variant:ident ( $payload:ty ),)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name { $($(#[$vmeta])* $variant($payload),)+ }

        impl $crate::wire::Wire for $name {
            fn code(&self) -> u16 { match self { $(Self::$variant(_) => $code,)+ } }
            fn class(&self) -> $crate::wire::Class { match self { $(Self::$variant(_) => $crate::wire::Class::$class,)+ } }
            fn encode(&self) -> Vec<u8> { match self { $(Self::$variant(payload) => $crate::wire::encode_payload(payload),)+ } }
            fn decode(code: u16, payload: &[u8]) -> Result<Self, $crate::wire::DecodeError> {
                match code {
                    $($code => Ok(Self::$variant($crate::wire::decode_payload(code, payload)?)),)+
                    other => Err($crate::wire::DecodeError::UnknownCode(other)),
                }
            }
            fn registry() -> &'static [(u16, &'static str, $crate::wire::Class)] {
                &[$(($code, stringify!($variant), $crate::wire::Class::$class),)+]
            }
        }

        $(impl From<$payload> for $name { fn from(payload: $payload) -> Self { Self::$variant(payload) } })+
    };
}
