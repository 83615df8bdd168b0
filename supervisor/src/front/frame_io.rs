//! A socket that is read in whole WebSocket frames (RFC 6455 5.2).
//!
//! The WebSocket library behind it never holds part of a frame: all bytes that were read from the kernel
//! and not yet handled stand here. So a connection can be taken apart at any frame border into its
//! descriptor and its unread bytes, and put together again in another image of this process.

use bytes::{Buf as _, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Read at once from the kernel.
const READ_CHUNK_BYTES: usize = 8 * 1024;

/// The wrapper.
#[derive(Debug)]
pub struct FrameIo<S> {
    inner: S,
    unread: BytesMut,
    /// Bytes at the head of `unread` that may be handed out.
    released: usize,
    /// A frame that announces more is not waited for: its head is handed out alone, and the library refuses it.
    payload_bytes_max: usize,
}

impl<S> FrameIo<S> {
    /// Wrap a socket from which `unread` was read already.
    pub fn new(inner: S, unread: &[u8], payload_bytes_max: usize) -> Self {
        Self { inner, unread: BytesMut::from(unread), released: 0, payload_bytes_max }
    }

    /// Change the largest payload that is waited for.
    pub fn set_payload_bytes_max(&mut self, max: usize) {
        self.payload_bytes_max = max;
    }
}

/// What the bytes so far say about the next frame.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// Not even the head is complete.
    Partial,
    /// Length of the head, length of the payload.
    Frame(usize, u64),
}

fn read_head(bytes: &[u8]) -> Head {
    let &[_, second, ..] = bytes else { return Head::Partial };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    match (second & 0x7f, bytes) {
        (126, [_, _, a, b, ..]) => Head::Frame(4 + mask, u64::from(u16::from_be_bytes([*a, *b]))),
        (127, [_, _, a, b, c, d, e, f, g, h, ..]) => {
            Head::Frame(10 + mask, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
        }
        (126 | 127, _) => Head::Partial,
        (short, _) => Head::Frame(2 + mask, u64::from(short)),
    }
}

/// How many bytes of `unread` may be handed out; 0 = more has to be read.
fn releasable(unread: &[u8], payload_bytes_max: usize) -> usize {
    let Head::Frame(head, payload) = read_head(unread) else { return 0 };
    let Some(payload) = usize::try_from(payload).ok().filter(|p| *p <= payload_bytes_max) else {
        return head.min(unread.len());
    };
    let whole = head + payload;
    if unread.len() >= whole { whole } else { 0 }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.released == 0 {
            this.released = releasable(&this.unread, this.payload_bytes_max);
            if this.released > 0 {
                break;
            }
            let mut chunk = [0_u8; READ_CHUNK_BYTES];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.unread.extend_from_slice(chunk.filled());
        }
        let n = this.released.min(out.remaining());
        out.put_slice(this.unread.get(..n).unwrap_or_default());
        this.unread.advance(n);
        this.released -= n;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    fn frame(payload: &[u8], masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut out = vec![0x81];
        match payload.len() {
            n @ 0..126 => out.push(mask | n as u8),
            n @ 126..65536 => {
                out.push(mask | 126);
                out.extend((n as u16).to_be_bytes());
            }
            n => {
                out.push(mask | 127);
                out.extend((n as u64).to_be_bytes());
            }
        }
        if masked {
            out.extend([1, 2, 3, 4]);
        }
        out.extend(payload);
        out
    }

    #[test]
    fn an_oversize_frame_shows_its_head_only() {
        let big = frame(&[0; 70_000], true);
        assert_eq!(releasable(&big[..9], 65_536), 0);
        assert_eq!(releasable(&big[..500], 65_536), 14);
        assert_eq!(releasable(&big, 70_000), big.len());
        assert_eq!(releasable(&big[..big.len() - 1], 70_000), 0);
    }

    proptest! {
        /// However the bytes arrive, they leave unchanged, and a stop between reads is a stop between frames.
        #[test]
        fn bytes_pass_unchanged_in_whole_frames(
            sizes in proptest::collection::vec(0..3000_usize, 1..6), cut in 1..4000_usize, masked in any::<bool>(),
        ) {
            let frames: Vec<Vec<u8>> = sizes.iter().map(|n| frame(&vec![7; *n], masked)).collect();
            let all = frames.concat();
            let (early, late) = all.split_at(cut.min(all.len()));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut io = FrameIo::new(late, early, 1 << 20);
                let mut got = Vec::new();
                let mut buf = vec![0; 8192];
                loop {
                    let n = io.read(&mut buf).await.unwrap();
                    if n == 0 {
                        break;
                    }
                    got.extend_from_slice(&buf[..n]);
                    let border = frames.iter().scan(0, |at, f| { *at += f.len(); Some(*at) }).any(|b| b == got.len());
                    prop_assert!(border || io.released > 0);
                }
                prop_assert_eq!(got, all.clone());
                Ok(())
            })?;
        }
    }
}
