//! Attackers that eat resources. Each is bounded, so that a hole costs seconds and not a machine. Its last line says how far it came.

use harness::escape::MARK;
use std::fs;
use std::io::{self, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Above any cap that makes sense for one command, below what hurts a machine.
const PROCESSES_TRIED: usize = 700;
/// Touched memory of the memory bomb, in all its processes.
const MEMORY_PIECE_BYTES: usize = 64 << 20;
const MEMORY_PIECES: usize = 40;
/// Bytes of the output flood.
const FLOOD_BYTES: u64 = 512 << 20;
/// How long the spinner spins.
const SPIN: Duration = Duration::from_secs(4);
const SPINNERS: usize = 4;

fn came(bomb: &str, how_far: impl std::fmt::Display) -> ExitCode {
    let mut out = io::stdout().lock();
    let _nobody_reads = writeln!(out, "{MARK}{bomb}: {how_far}");
    ExitCode::SUCCESS
}

fn again(words: &[&str]) -> io::Result<Child> {
    Command::new("/proc/self/exe").arg("bomb").args(words).stdin(Stdio::null()).stdout(Stdio::null()).spawn()
}

pub fn run(name: &str) -> ExitCode {
    match name {
        "fork" => fork(),
        "fork-child" => {
            std::thread::sleep(Duration::from_secs(60));
            ExitCode::SUCCESS
        }
        "memory" => memory(),
        "shared-memory" => shared_memory(),
        "flood" => flood(),
        "spin" => spin(),
        "zombies" => zombies(),
        "quit" => ExitCode::SUCCESS,
        "daemon" => daemon(3),
        "daemon-2" => daemon(2),
        "daemon-1" => daemon(1),
        "daemon-0" => linger(),
        "disk" => disk(),
        _ => ExitCode::from(64),
    }
}

/// Starts processes until no more can be started.
fn fork() -> ExitCode {
    let mut alive = Vec::new();
    let why = loop {
        if alive.len() >= PROCESSES_TRIED {
            break "nothing stopped it".to_owned();
        }
        match again(&["fork-child"]) {
            Ok(child) => alive.push(child),
            Err(error) => break error.to_string(),
        }
    };
    let count = alive.len();
    for child in &mut alive {
        let _ends_with_us = child.kill();
        let _reaped = child.wait();
    }
    came("fork", format_args!("{count} processes; {why}"))
}

/// Touches memory piece by piece.
fn memory() -> ExitCode {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for nth in 0..MEMORY_PIECES {
        let mut piece: Vec<u8> = Vec::new();
        if let Err(error) = piece.try_reserve_exact(MEMORY_PIECE_BYTES) {
            return came("memory", format_args!("{} MiB; {error}", (nth * MEMORY_PIECE_BYTES) >> 20));
        }
        piece.resize(MEMORY_PIECE_BYTES, 1);
        held.push(piece);
    }
    came("memory", format_args!("{} MiB; nothing stopped it", (held.len() * MEMORY_PIECE_BYTES) >> 20))
}

/// The same in shared memory, which limits of one process do not count.
fn shared_memory() -> ExitCode {
    let name = c"openclaw-probe";
    let made = super::raw::call(nix::libc::SYS_memfd_create, [super::raw::address(name), 0, 0, 0, 0, 0]);
    let piece = vec![1u8; MEMORY_PIECE_BYTES];
    let Ok(fd) = made else { return came("shared-memory", "no memory file") };
    let Ok(mut file) = fs::OpenOptions::new().append(true).open(format!("/proc/self/fd/{fd}")) else {
        return came("shared-memory", "not writable");
    };
    for nth in 0..MEMORY_PIECES {
        if let Err(error) = file.write_all(&piece) {
            return came("shared-memory", format_args!("{} MiB; {error}", (nth * MEMORY_PIECE_BYTES) >> 20));
        }
    }
    came(
        "shared-memory",
        format_args!("{} MiB; nothing stopped it", (MEMORY_PIECES * MEMORY_PIECE_BYTES) >> 20),
    )
}

fn flood() -> ExitCode {
    let block = [b'x'; 64 * 1024];
    let mut out = io::stdout().lock();
    let mut written = 0;
    while written < FLOOD_BYTES {
        if out.write_all(&block).is_err() {
            return ExitCode::FAILURE;
        }
        written += block.len() as u64;
    }
    let _nobody_reads = writeln!(out);
    drop(out);
    came("flood", written)
}

fn spin() -> ExitCode {
    let end = Instant::now() + SPIN;
    let threads: Vec<_> = (0..SPINNERS)
        .map(|_| {
            std::thread::spawn(move || {
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    for thread in threads {
        let _ended = thread.join();
    }
    came("spin", SPINNERS)
}

/// Children that end and that nobody waits for.
fn zombies() -> ExitCode {
    let children: Vec<_> = (0..100).map_while(|_| again(&["quit"]).ok()).collect();
    came("zombies", children.len())
}

/// A process that leaves its parent, its session and its group, once per level, and shuts its ears.
fn daemon(level: u32) -> ExitCode {
    let _own_session = nix::unistd::setsid();
    let _adopts = nix::sys::prctl::set_child_subreaper(level == 2);
    let _outlives_its_parent = nix::sys::prctl::set_pdeathsig(None);
    let next = format!("daemon-{}", level - 1);
    let started = again(&[&next]);
    came("daemon", started.map_or_else(|error| error.to_string(), |child| child.id().to_string()))
}

fn linger() -> ExitCode {
    let deaf = [nix::sys::signal::SIGTERM, nix::sys::signal::SIGHUP, nix::sys::signal::SIGINT];
    let _deaf = deaf.into_iter().collect::<nix::sys::signal::SigSet>().thread_block();
    let _own_session = nix::unistd::setsid();
    let _named = nix::sys::prctl::set_name(c"probe-daemon");
    let _noted = fs::write("probe-daemon", std::process::id().to_string());
    std::thread::sleep(Duration::from_secs(120));
    ExitCode::SUCCESS
}

/// Writes one file until it may not grow; sparse, so that the disk is spared.
fn disk() -> ExitCode {
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(nix::sys::signal::Signal::SIGXFSZ);
    let _an_error_is_enough = set.thread_block();
    let Ok(file) = fs::File::create("probe-disk") else { return came("disk", "no file") };
    let step = 256u64 << 20;
    let mut bytes = 0;
    let why = loop {
        if bytes >= 8 << 30 {
            break "nothing stopped it".to_owned();
        }
        if let Err(error) = file.set_len(bytes + step) {
            break error.to_string();
        }
        bytes += step;
    };
    let _removed = fs::remove_file("probe-disk");
    came("disk", format_args!("{} MiB; {why}", bytes >> 20))
}
