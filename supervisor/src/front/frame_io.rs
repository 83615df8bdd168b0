//! A socket that is read in whole WebSocket messages and takes whole frames (RFC 6455 5).
//!
//! The WebSocket library behind it never holds part of a message: all bytes that were read from the kernel
//! and not yet handled stand here, fragments of an unfinished message among them, and so do those that the
//! kernel has not taken yet. So a connection can be taken apart at any moment into its descriptor and its
//! bytes, and put together again in another image of this process.

use bytes::{Buf as _, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Read at once from the kernel.
const READ_CHUNK_BYTES: usize = 8 * 1024;
/// Bytes taken on top of a message that the kernel has not taken yet. Messages wait in the queue before, so these
/// are the pongs for a peer that sends pings and does not read.
const OWED_BYTES_MAX: usize = 64 * 1024;
/// Opcodes from here on are control frames (RFC 6455 5.5): they may stand between fragments.
const CONTROL_OPCODES: u8 = 8;

/// The wrapper.
#[derive(Debug)]
pub struct FrameIo<S> {
    inner: S,
    /// Read, not yet looked at; whole frames at its head of which `released` bytes may be handed out.
    unread: BytesMut,
    released: usize,
    /// Whole frames of a message whose last frame is not here yet.
    fragments: BytesMut,
    /// A message of several frames, on its way to the library.
    outgoing: BytesMut,
    /// The library holds the beginning of a message that was too large to be held here.
    passing: bool,
    /// A frame that announces more is not waited for: its head is handed out alone, and the library refuses it.
    payload_bytes_max: usize,
    /// Given to us, not yet taken by the kernel.
    unwritten: BytesMut,
    /// What of it was taken although something waited.
    owed: usize,
}

/// What is left of a connection that was taken apart.
#[derive(Debug)]
pub struct Parts<S> {
    /// The socket.
    pub inner: S,
    /// Bytes to be read before those of the socket.
    pub unread: Vec<u8>,
    /// Bytes to be written before anything else.
    pub unwritten: Vec<u8>,
}

impl<S> FrameIo<S> {
    /// Wrap a socket from which `unread` was read already.
    pub fn new(inner: S, unread: &[u8], payload_bytes_max: usize) -> Self {
        Self {
            inner,
            unread: BytesMut::from(unread),
            released: 0,
            fragments: BytesMut::new(),
            outgoing: BytesMut::new(),
            passing: false,
            payload_bytes_max,
            unwritten: BytesMut::new(),
            owed: 0,
        }
    }

    /// The rest of a frame that an earlier image of this process has begun to write.
    #[must_use]
    pub fn with_unwritten(mut self, bytes: &[u8]) -> Self {
        self.unwritten = BytesMut::from(bytes);
        self
    }

    /// Change the largest payload that is waited for.
    pub fn set_payload_bytes_max(&mut self, max: usize) {
        self.payload_bytes_max = max;
    }

    /// Whether the library holds no part of a message, so that the connection can be taken apart.
    pub fn is_whole(&self) -> bool {
        !self.passing && self.released == 0 && self.outgoing.is_empty()
    }

    /// Bytes that a connection taken apart now would leave.
    pub fn bytes(&self) -> usize {
        self.fragments.len() + self.unread.len() + self.unwritten.len()
    }

    /// Takes the connection apart. To be asked first: [`FrameIo::is_whole`].
    pub fn into_parts(self) -> Parts<S> {
        let unread = [self.fragments.as_ref(), &self.unread].concat();
        Parts { inner: self.inner, unread, unwritten: self.unwritten.to_vec() }
    }

    /// Looks at the frame at the head of `unread`. Returns false when more has to be read.
    fn sort(&mut self) -> bool {
        let (whole, first) = match next_frame(&self.unread, self.payload_bytes_max) {
            Next::Partial => return false,
            Next::Oversize(head) => {
                self.outgoing = std::mem::take(&mut self.fragments);
                self.released = head;
                return true;
            }
            Next::Whole(whole, first) => (whole, first),
        };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if opcode >= CONTROL_OPCODES {
            self.released = whole;
        } else if self.passing {
            self.passing = !last;
            self.released = whole;
        } else if last && self.fragments.is_empty() {
            self.released = whole;
        } else {
            self.fragments.extend_from_slice(self.unread.get(..whole).unwrap_or_default());
            self.unread.advance(whole);
            // More than a message may have: the library says so.
            let too_large = self.fragments.len() > self.payload_bytes_max;
            if last || too_large {
                self.outgoing = std::mem::take(&mut self.fragments);
                self.passing = !last;
            }
        }
        true
    }
}

/// The frame at the head of some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// More is needed.
    Partial,
    /// Its head, of this length, announces too much.
    Oversize(usize),
    /// Length of head and payload; first byte.
    Whole(usize, u8),
}

fn next_frame(bytes: &[u8], payload_bytes_max: usize) -> Next {
    let &[first, second, ..] = bytes else { return Next::Partial };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (head, payload) = match (second & 0x7f, bytes) {
        (126, [_, _, a, b, ..]) => (4 + mask, u64::from(u16::from_be_bytes([*a, *b]))),
        (127, [_, _, a, b, c, d, e, f, g, h, ..]) => {
            (10 + mask, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
        }
        (126 | 127, _) => return Next::Partial,
        (short, _) => (2 + mask, u64::from(short)),
    };
    if bytes.len() < head {
        return Next::Partial;
    }
    match usize::try_from(payload).ok().filter(|p| *p <= payload_bytes_max) {
        None => Next::Oversize(head),
        Some(payload) if bytes.len() < head + payload => Next::Partial,
        Some(payload) => Next::Whole(head + payload, first),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.outgoing.is_empty() {
                let n = this.outgoing.len().min(out.remaining());
                out.put_slice(this.outgoing.get(..n).unwrap_or_default());
                this.outgoing.advance(n);
                return Poll::Ready(Ok(()));
            }
            if this.released > 0 {
                let n = this.released.min(out.remaining());
                out.put_slice(this.unread.get(..n).unwrap_or_default());
                this.unread.advance(n);
                this.released -= n;
                return Poll::Ready(Ok(()));
            }
            if this.sort() {
                continue;
            }
            let mut chunk = [0_u8; READ_CHUNK_BYTES];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.unread.extend_from_slice(chunk.filled());
        }
    }
}

impl<S: AsyncWrite + Unpin> FrameIo<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten.is_empty() {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.unwritten))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unwritten.advance(n);
        }
        self.owed = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameIo<S> {
    /// Takes all or nothing, so that no frame is torn between the library and us.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut taken = 0;
        if this.poll_drain(cx)?.is_ready() {
            if let Poll::Ready(n) = Pin::new(&mut this.inner).poll_write(cx, bytes)? {
                taken = n;
            }
        } else if this.owed + bytes.len() > OWED_BYTES_MAX {
            return Poll::Pending;
        } else {
            this.owed += bytes.len();
        }
        this.unwritten.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
