//! A full disk is somebody's mistake that somebody mends: what a run has to write waits for room instead of failing the
//! run. Bounded, so that the user hears of it in the end.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::Instant;

use super::sessions::SessionError;
use super::store::StoreError;
use super::transcript::TranscriptError;

/// Long enough for a log rotation or an operator who was called; after that the run fails and says why.
const WAIT: Duration = Duration::from_secs(120);
/// A write that fails costs next to nothing.
const LOOK: Duration = Duration::from_millis(500);

/// Repeats `attempt` while the disk has no room, at most [`WAIT`].
pub async fn wait_for_room<T, F>(
    first: Result<T, SessionError>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, SessionError>
where
    F: Future<Output = Result<T, SessionError>>,
{
    let mut result = first;
    let end = Instant::now() + WAIT;
    while let Err(error) = &result
        && is_full_disk(error)
        && Instant::now() < end
    {
        tracing::warn!(%error, "waiting for room on the disk");
        tokio::time::sleep(LOOK).await;
        result = attempt().await;
    }
    result
}

fn is_full_disk(error: &SessionError) -> bool {
    let source = match error {
        SessionError::Store(StoreError::Io { source, .. })
        | SessionError::Transcript(TranscriptError::Io { source, .. })
        | SessionError::Io(source) => source,
        SessionError::Store(_) | SessionError::Transcript(_) | SessionError::Task(_) => return false,
    };
    matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;

    fn full() -> Result<u8, SessionError> {
        Err(SessionError::Io(ErrorKind::StorageFull.into()))
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_room_but_not_for_ever_and_for_nothing_else() {
        let mut tries = 0;
        let written = wait_for_room(full(), || {
            tries += 1;
            ready(if tries < 3 { full() } else { Ok(7) })
        })
        .await;
        assert_eq!((written.unwrap(), tries), (7, 3));
        let mut tries = 0;
        let given_up = wait_for_room(full(), || {
            tries += 1;
            ready(full())
        })
        .await;
        assert!(given_up.is_err() && (200..=240).contains(&tries), "{tries}");
        let denied = || Err::<u8, _>(SessionError::Io(ErrorKind::PermissionDenied.into()));
        let refused = wait_for_room(denied(), || ready(full())).await;
        assert!(
            matches!(refused, Err(SessionError::Io(error)) if error.kind() == ErrorKind::PermissionDenied)
        );
    }
}
