//! The memory of a caller, opened by the keeper itself or, where only an ancestor may, by the worker; and descriptors over a
//! socket.

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;

/// A worker answers at once, unless it is stopped; the call then fails and nothing opens.
const LEND_LIMIT: Duration = Duration::from_secs(5);

/// The worker's end of its keeper's socket, from the confinement until the thread has it.
static ASKED_HERE: Mutex<Option<UnixStream>> = Mutex::new(None);

/// Sends `bytes` with a descriptor.
pub fn send(socket: &UnixStream, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Fills `bytes`, and gives the descriptor that came along.
pub fn receive(socket: &UnixStream, bytes: &mut [u8]) -> io::Result<Option<OwnedFd>> {
    let wanted = bytes.len();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let got = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    if got.bytes < wanted {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

/// Leaves the worker's end for [`lend_memory`].
pub fn keep(socket: UnixStream) {
    *ASKED_HERE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(socket);
}

/// Starts the thread of a worker that opens the memory of its commands for its keeper; none without a keeper. When the keeper
/// is killed, the worker ends in the same way: no other one could take its place, and no run is to blame for it.
pub fn lend_memory() -> io::Result<()> {
    let socket = ASKED_HERE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let Some(socket) = socket else { return Ok(()) };
    socket.set_read_timeout(None)?;
    std::thread::Builder::new().name("lend-memory".to_owned()).spawn(move || {
        lend(&socket);
        end_with_keeper();
    })?;
    Ok(())
}

/// As the keeper was killed.
pub fn end_with_keeper() {
    let _ends_here = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

/// Until the keeper is gone.
fn lend(mut socket: &UnixStream) {
    let mut tid = [0u8; 4];
    while socket.read_exact(&mut tid).is_ok() {
        let sent = match open(u32::from_le_bytes(tid)) {
            Ok(memory) => send(socket, &tid, memory.as_fd()),
            Err(_refused) => socket.write_all(&tid),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn open(tid: u32) -> io::Result<File> {
    File::open(format!("/proc/{tid}/mem"))
}

/// For the keeper: the memory of a thread, by itself or from the worker.
pub fn of(tid: u32, worker: &UnixStream) -> Result<File, Errno> {
    match open(tid) {
        Ok(memory) => Ok(memory),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            borrowed(tid, worker).ok().flatten().ok_or(Errno::PERM)
        }
        Err(_gone) => Err(Errno::PERM),
    }
}

fn borrowed(tid: u32, mut worker: &UnixStream) -> io::Result<Option<File>> {
    worker.set_read_timeout(Some(LEND_LIMIT))?;
    worker.write_all(&tid.to_le_bytes())?;
    let mut answered = [0u8; 4];
    loop {
        let memory = receive(worker, &mut answered)?;
        // The answer to an earlier question, which came too late.
        if u32::from_le_bytes(answered) == tid {
            return Ok(memory.map(File::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_worker_lends_the_memory_of_a_process() {
        let (worker, keeper) = UnixStream::pair().unwrap();
        let lending = std::thread::spawn(move || lend(&worker));
        let text = *b"a path";
        let memory = borrowed(std::process::id(), &keeper).unwrap().expect("lent");
        let mut read = [0u8; 6];
        memory.read_exact_at(&mut read, std::ptr::from_ref(&text).addr() as u64).unwrap();
        assert_eq!(read, text);
        assert!(borrowed(u32::MAX, &keeper).unwrap().is_none(), "there is no such process");
        drop(keeper);
        lending.join().unwrap();
    }
}
