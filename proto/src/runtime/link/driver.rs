//! The task of one link: reads, writes, ticks, until one of them ends.

use super::CloseReason;
use super::shared::Shared;
use crate::runtime::heartbeat::TICK_MS;
use crate::wire::frame::FrameDecoder;
use bytes::BytesMut;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};

/// Period of the clock while requests wait for an answer: the grain of their deadlines.
const REQUEST_TICK_MS: u64 = 50;
/// A write buffer above this is given back after use.
const BATCH_KEPT_BYTES: usize = 128 * 1024;
/// How long a closing link may still write and read what is on its way.
const LINGER: Duration = Duration::from_secs(1);

/// `decoder` and `batch` hold what another image had read and not yet written (see [`super::carry`]). They live here, so
/// that a read or a write that is broken off goes on where it stopped.
pub(super) async fn drive(
    mut stream: UnixStream,
    shared: Arc<Shared>,
    mut decoder: FrameDecoder,
    mut batch: BytesMut,
) {
    let (mut reader, mut writer) = stream.split();
    tokio::select! {
        () = shared.asked_to_freeze() => {
            super::carry::give_back(stream, &shared, decoder, &batch);
            shared.close(CloseReason::Local);
        }
        why = read_all(&mut reader, &mut decoder, &shared) => shared.close(why),
        error = write_all(&mut writer, &mut batch, &shared) => {
            // The peer no longer reads. What it sent before is still worth reading.
            let why = tokio::time::timeout(LINGER, read_all(&mut reader, &mut decoder, &shared)).await;
            shared.close(why.unwrap_or_else(|_| CloseReason::Io(error.to_string())));
        }
        () = tick_all(&shared) => {}
        () = shared.ended() => {
            // Closed on this side: one last chance for what is queued.
            let _ = tokio::time::timeout(LINGER, write_rest(&mut writer, &mut batch, &shared)).await;
        }
    }
    shared.end();
}

async fn read_all(reader: &mut ReadHalf<'_>, decoder: &mut FrameDecoder, shared: &Shared) -> CloseReason {
    loop {
        match reader.read_buf(decoder.room()).await {
            Ok(0) => return CloseReason::PeerGone { unfinished_bytes: decoder.unfinished_bytes() },
            Ok(_) => {}
            // A peer that died with unread input resets the connection: it is gone all the same.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return CloseReason::PeerGone { unfinished_bytes: decoder.unfinished_bytes() };
            }
            Err(error) => return CloseReason::Io(error.to_string()),
        }
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    if let Err(why) = shared.received(frame) {
                        return why;
                    }
                }
                Ok(None) => break,
                Err(error) => return error.into(),
            }
        }
    }
}

async fn write_all(writer: &mut WriteHalf<'_>, batch: &mut BytesMut, shared: &Shared) -> io::Error {
    loop {
        if batch.is_empty() {
            shared.next_batch(batch).await;
        }
        if let Err(error) = write_batch(writer, batch).await {
            return error;
        }
        if batch.capacity() > BATCH_KEPT_BYTES {
            *batch = BytesMut::new();
        }
    }
}

async fn write_batch(writer: &mut WriteHalf<'_>, batch: &mut BytesMut) -> io::Result<()> {
    while !batch.is_empty() {
        if writer.write_buf(batch).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

async fn write_rest(writer: &mut WriteHalf<'_>, batch: &mut BytesMut, shared: &Shared) {
    loop {
        if write_batch(writer, batch).await.is_err() {
            return;
        }
        if !shared.fill(batch) {
            break;
        }
    }
    let _ = writer.shutdown().await;
}

async fn tick_all(shared: &Shared) {
    let mut waiting = false;
    loop {
        let period = Duration::from_millis(if waiting { REQUEST_TICK_MS } else { TICK_MS });
        let before = Instant::now();
        let woken = tokio::select! {
            () = tokio::time::sleep(period) => false,
            () = shared.ticker_woken(), if !waiting => true,
        };
        let late = if woken { Duration::ZERO } else { before.elapsed().saturating_sub(period) };
        waiting = shared.tick(late.as_millis() as u64);
    }
}
