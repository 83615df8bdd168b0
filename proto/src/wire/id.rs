//! Internal ids: 16 bytes, UUIDv7 where time order helps, UUIDv5 where the same cause must give the same id.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A 16-byte id, written as MessagePack `bin` on the link and as a hyphenated UUID for people.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Id(pub [u8; 16]);

impl Id {
    pub const NIL: Id = Id([0; 16]);

    /// A fresh time-ordered id (RFC 9562, version 7).
    #[cfg(feature = "runtime")]
    pub fn now() -> Self {
        Self(*uuid::Uuid::now_v7().as_bytes())
    }

    /// The id of one outbound part: the same origin, kind and number always give the same id (RFC 9562, version 5),
    /// so that a step that is done again finds the row that it made before.
    pub fn derived(origin: &Id, kind: &str, n: u32) -> Self {
        let namespace = uuid::Uuid::from_bytes(origin.0);
        Self(*uuid::Uuid::new_v5(&namespace, format!("{kind}/{n}").as_bytes()).as_bytes())
    }

    /// Reads the 16 raw bytes that a database row holds.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        <[u8; 16]>::try_from(bytes).ok().map(Self)
    }

    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::parse_str(text).ok().map(|uuid| Self(*uuid.as_bytes()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::Bytes::new(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteArray::<16>::deserialize(deserializer)?;
        Ok(Self(bytes.into_array()))
    }
}
