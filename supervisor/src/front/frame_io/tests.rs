use super::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;

fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut out = vec![first];
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

/// All that can be read now, without waiting for more.
fn read_now(io: &mut FrameIo<tokio::io::DuplexStream>) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buf = vec![0; 4096];
    while let Some(n) = futures_util::FutureExt::now_or_never(io.read(&mut buf)) {
        got.extend_from_slice(&buf[..n.unwrap()]);
    }
    got
}

#[test]
fn an_oversize_frame_shows_its_head_only() {
    let big = frame(TEXT, &[0; 70_000], true);
    assert_eq!(next_frame(&big[..9], 65_536), Next::Partial);
    assert_eq!(next_frame(&big[..500], 65_536), Next::Oversize(14));
    assert_eq!(next_frame(&big, 70_000), Next::Whole(big.len(), TEXT));
    assert_eq!(next_frame(&big[..big.len() - 1], 70_000), Next::Partial);
}

#[tokio::test]
async fn fragments_stay_until_the_last_one_and_pings_overtake_them() {
    let (mut peer, ours) = tokio::io::duplex(1 << 16);
    let mut io = FrameIo::new(ours, &[], 1000);
    let (first, ping) = (frame(0x01, b"one", true), frame(PING, b"p", true));
    peer.write_all(&first).await.unwrap();
    peer.write_all(&ping).await.unwrap();
    assert_eq!(read_now(&mut io), ping);
    let Parts { inner, unread, .. } = io.into_parts();
    assert_eq!(unread, first, "a message that has begun is carried");
    let mut io = FrameIo::new(inner, &unread, 1000);
    let last = frame(0x80, b"two", true);
    peer.write_all(&last).await.unwrap();
    assert_eq!(read_now(&mut io), [first, last].concat());
    assert!(io.is_whole());
}

#[tokio::test]
async fn a_message_of_too_many_fragments_is_passed_on_and_cannot_be_carried() {
    let (mut peer, ours) = tokio::io::duplex(1 << 16);
    let mut io = FrameIo::new(ours, &[], 1000);
    let parts = [frame(0x01, &[7; 900], true), frame(0x00, &[7; 900], true)].concat();
    peer.write_all(&parts).await.unwrap();
    assert_eq!(read_now(&mut io), parts);
    assert!(!io.is_whole());
}

#[tokio::test]
async fn what_the_kernel_does_not_take_is_kept_and_carried() {
    let (mut peer, ours) = tokio::io::duplex(10);
    let mut io = FrameIo::new(ours, &[], 1000);
    io.write_all(b"0123456789abcdef").await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(io.flush()).is_none());
    let Parts { inner, unwritten, .. } = io.into_parts();
    assert_eq!(unwritten, b"abcdef");
    let mut io = FrameIo::new(inner, &[], 1000).with_unwritten(&unwritten);
    let reader = tokio::spawn(async move {
        let mut all = vec![0; 18];
        peer.read_exact(&mut all).await.unwrap();
        all
    });
    io.write_all(b"gh").await.unwrap();
    io.flush().await.unwrap();
    assert_eq!(reader.await.unwrap(), b"0123456789abcdefgh");
}

proptest! {
    /// However the bytes arrive, they leave unchanged, and a stop between reads is a stop between messages.
    #[test]
    fn bytes_pass_unchanged_in_whole_frames(
        sizes in proptest::collection::vec(0..3000_usize, 1..6), cut in 1..4000_usize, masked in any::<bool>(),
    ) {
        let frames: Vec<Vec<u8>> = sizes.iter().map(|n| frame(TEXT, &vec![7; *n], masked)).collect();
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

    /// Taken apart after any read, a connection goes on with the same bytes.
    #[test]
    fn a_cut_at_any_place_loses_nothing(
        messages in proptest::collection::vec((1..4_usize, 0..200_usize), 1..6), cuts in proptest::collection::vec(1..300_usize, 1..8),
    ) {
        let all: Vec<u8> = messages.iter().flat_map(|(parts, size)| (0..*parts).flat_map(move |n| {
            let first = if n == 0 { 1 } else { 0 } | if n + 1 == *parts { 0x80 } else { 0 };
            frame(first, &vec![7; *size], true)
        })).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut peer, ours) = tokio::io::duplex(1 << 16);
            let (mut io, mut got, mut rest) = (FrameIo::new(ours, &[], 10_000), Vec::new(), all.as_slice());
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                peer.write_all(now).await.unwrap();
                rest = later;
                got.extend(read_now(&mut io));
                prop_assert!(io.is_whole());
                let parts = io.into_parts();
                io = FrameIo::new(parts.inner, &parts.unread, 10_000);
                if rest.is_empty() {
                    break;
                }
            }
            got.extend(read_now(&mut io));
            prop_assert_eq!(got, all.clone());
            Ok(())
        })?;
    }
}
