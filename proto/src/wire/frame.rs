//! The frame around every message, and an incremental decoder for it.
//!
//! ```text
//!  0        4       6      7      8          16
//!  | length | type  | class| flags| corr     | payload
//!    u32 LE  u16 LE   u8     u8     u64 LE     length − 12 bytes
//! ```
//!
//! `length` counts what follows it. Not here: what a payload means (see [`super::Wire`]) and who may send it when
//! (see [`super::state`]).

use super::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
use super::registry::Class;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt;

/// Bytes of the length word.
pub const LENGTH_BYTES: usize = 4;
/// Room asked for before a read into an empty buffer: most frames are below 1 KiB, and each link keeps one buffer.
pub const READ_START_BYTES: usize = 16 * 1024;
/// Steps in which a buffer grows while a larger frame arrives, so that a claimed length is paid for before it costs memory.
pub const READ_STEP_BYTES: usize = 64 * 1024;

/// Flag bits of a frame. Bits without a name are carried and ignored.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    pub const NONE: Flags = Flags(0);
    /// A receiver that does not know the type must answer with an error; without it the frame is ignored.
    pub const MUST_UNDERSTAND: Flags = Flags(1);
    /// The last frame under its corr.
    pub const END_STREAM: Flags = Flags(2);
    /// An answer to a request of the other side.
    pub const IS_RESPONSE: Flags = Flags(4);
    /// The payload is a [`super::WireError`].
    pub const ERROR: Flags = Flags(8);

    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::MUST_UNDERSTAND, "MUST_UNDERSTAND"),
            (Self::END_STREAM, "END_STREAM"),
            (Self::IS_RESPONSE, "IS_RESPONSE"),
            (Self::ERROR, "ERROR"),
        ];
        let set = names.iter().filter(|(flag, _)| self.has(*flag)).map(|(_, name)| *name);
        f.debug_list().entries(set).finish()
    }
}

/// One frame, payload still encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub code: u16,
    pub class: Class,
    pub flags: Flags,
    /// Request or stream id: odd when the supervisor opened it, even when the worker did, 0 for none.
    pub corr: u64,
    pub payload: Bytes,
}

impl Frame {
    /// Length on the wire, length word included.
    pub fn wire_bytes(&self) -> usize {
        LENGTH_BYTES + FRAME_HEADER_BYTES + self.payload.len()
    }

    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), FrameError> {
        let length = FRAME_HEADER_BYTES + self.payload.len();
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { bytes: length, max: FRAME_BYTES_MAX });
        }
        out.reserve(LENGTH_BYTES + length);
        out.put_u32_le(length as u32);
        out.put_u16_le(self.code);
        out.put_u8(self.class as u8);
        out.put_u8(self.flags.0);
        out.put_u64_le(self.corr);
        out.extend_from_slice(&self.payload);
        Ok(())
    }
}

/// Why bytes are not a frame. After any of these the stream has no border to go on from: the link must close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame of {bytes} bytes is over the limit of {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("frame of {bytes} bytes is shorter than its header")]
    Short { bytes: usize },
    #[error("frame has class {0}, which does not exist")]
    Class(u8),
}

/// Reads one class byte.
pub fn class_of(byte: u8) -> Option<Class> {
    match byte {
        0 => Some(Class::Control),
        1 => Some(Class::Durable),
        2 => Some(Class::Lossy),
        _ => None,
    }
}

/// Cuts a byte stream into frames. Holds at most one unfinished frame and what was read beyond it.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    max: usize,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new(FRAME_BYTES_MAX)
    }
}

impl FrameDecoder {
    /// `max` bounds the length word; never above [`FRAME_BYTES_MAX`].
    pub fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), max: max.min(FRAME_BYTES_MAX) }
    }

    /// The buffer to read into, with room for one more step.
    pub fn room(&mut self) -> &mut BytesMut {
        let step = if self.buffer.is_empty() { READ_START_BYTES } else { READ_STEP_BYTES };
        if self.buffer.capacity() - self.buffer.len() < step / 4 {
            self.buffer.reserve(step);
        }
        &mut self.buffer
    }

    /// Appends bytes that were read elsewhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, `None` while more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(length) = self.length() else { return Ok(None) };
        if length > self.max {
            return Err(FrameError::TooLarge { bytes: length, max: self.max });
        }
        if length < FRAME_HEADER_BYTES {
            return Err(FrameError::Short { bytes: length });
        }
        // The class is checked as soon as it is there, before the rest of the frame is waited for.
        if let Some(&byte) = self.buffer.get(LENGTH_BYTES + 2)
            && class_of(byte).is_none()
        {
            return Err(FrameError::Class(byte));
        }
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        let mut body = self.buffer.split_to(length);
        let code = body.get_u16_le();
        let byte = body.get_u8();
        let class = class_of(byte).ok_or(FrameError::Class(byte))?;
        let flags = Flags(body.get_u8());
        let corr = body.get_u64_le();
        Ok(Some(Frame { code, class, flags, corr, payload: body.freeze() }))
    }

    fn length(&self) -> Option<usize> {
        let word = self.buffer.get(..LENGTH_BYTES)?;
        Some(u32::from_le_bytes(word.try_into().ok()?) as usize)
    }

    /// Bytes read that are not yet a whole frame. Not 0 at the end of a stream means that the peer stopped inside one.
    pub fn unfinished_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Gives back what is not yet a whole frame.
    pub fn into_unfinished(self) -> Vec<u8> {
        self.buffer.into()
    }

    /// Memory that the decoder holds on to.
    pub fn capacity_bytes(&self) -> usize {
        self.buffer.capacity()
    }
}

#[cfg(test)]
mod tests;
