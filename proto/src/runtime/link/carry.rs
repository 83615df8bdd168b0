//! Carries the supervisor's end of a link over an exec: the task gives back its socket with everything that it had read
//! and not yet cut into frames, and everything that it had not yet written.

use super::shared::{Inner, Shared};
use super::{LinkEvents, LinkHandle, LinkLimits, driver};
use crate::wire::frame::FrameDecoder;
use crate::wire::state::{CarriedBooks, LinkState, Side};
use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// Everything about one link but its socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedLink {
    pub books: CarriedBooks,
    /// Start of a frame that the peer has not finished.
    #[serde(with = "serde_bytes")]
    pub unread: Vec<u8>,
    /// Rest of frames that the kernel has not taken.
    #[serde(with = "serde_bytes")]
    pub unwritten: Vec<u8>,
}

/// A link that nobody drives any more.
#[derive(Debug)]
pub struct FrozenLink {
    pub socket: OwnedFd,
    pub state: CarriedLink,
}

impl LinkHandle {
    /// Ends the driver without closing the link. `None` when it had ended before.
    ///
    /// From here on nothing can be sent, and what the peer sends stays in the kernel.
    pub async fn freeze(&self) -> Option<FrozenLink> {
        let (reply, frozen) = oneshot::channel();
        self.shared.ask_to_freeze(reply);
        frozen.await.ok()
    }
}

/// Goes on with a link that another image of this program froze.
///
/// # Errors
/// The descriptor is no socket that this runtime can drive.
pub fn thaw(
    socket: OwnedFd,
    side: Side,
    limits: LinkLimits,
    carried: CarriedLink,
) -> std::io::Result<(LinkHandle, LinkEvents)> {
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    let CarriedLink { books, unread, unwritten } = carried;
    let state = LinkState::restore(side, limits.rules.clone(), books, 0);
    let shared = Arc::new(Shared::with_state(side, limits, state));
    let mut decoder = FrameDecoder::default();
    decoder.feed(&unread);
    let batch = BytesMut::from(&unwritten[..]);
    tokio::spawn(driver::drive(stream, shared.clone(), decoder, batch));
    Ok((LinkHandle { shared: shared.clone() }, LinkEvents { shared }))
}

/// The driver's last act when it was asked to freeze.
pub(super) fn give_back(stream: UnixStream, shared: &Shared, decoder: FrameDecoder, batch: &BytesMut) {
    let Some(reply) = shared.take_freeze() else { return };
    let Ok(stream) = stream.into_std() else { return };
    let state = CarriedLink {
        books: shared.read(|link: &Inner| link.state.carry()),
        unread: decoder.into_unfinished(),
        unwritten: batch.to_vec(),
    };
    // Whoever asked may have given up; then the link simply ends.
    let _gone = reply.send(FrozenLink { socket: stream.into(), state });
}
