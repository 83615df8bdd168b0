//! Frames of every release must be readable for ever, and bytes that are not frames must do no harm.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod samples;

use bytes::BytesMut;
use proto::wire::state::{LinkRules, LinkState, Side};
use proto::wire::{Frame, FrameDecoder};
use std::path::Path;

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1").join(format!("{name}.mp"));
    std::fs::read(&path)
        .unwrap_or_else(|_| panic!("{} is missing: cargo run -p proto --example golden", path.display()))
}

fn one_frame(bytes: &[u8]) -> Frame {
    let mut decoder = FrameDecoder::default();
    decoder.feed(bytes);
    let frame = decoder.next_frame().unwrap().expect("a whole frame");
    assert_eq!(decoder.unfinished_bytes(), 0);
    frame
}

#[test]
fn every_message_has_a_sample_and_codes_are_used_once() {
    let mut named: Vec<_> =
        samples::codes().iter().map(|(code, name, _)| format!("{code:04x}_{name}")).collect();
    let mut sampled: Vec<_> = samples::all().into_iter().map(|sample| sample.name).collect();
    named.sort();
    sampled.sort();
    assert_eq!(named, sampled);
    let mut codes: Vec<_> = samples::codes().iter().map(|(code, ..)| *code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), named.len(), "a code stands for two messages");
}

#[test]
fn frozen_frames_mean_what_they_meant() {
    for sample in samples::all() {
        let frame = one_frame(&golden(&sample.name));
        assert_eq!((frame.code, frame.class), (sample.frame.code, sample.frame.class), "{}", sample.name);
        if let Err(problem) = (sample.check)(&frame) {
            panic!("{} {problem}", sample.name);
        }
    }
}

#[test]
fn no_file_is_left_over() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1");
    let names: Vec<_> = samples::all().into_iter().map(|sample| format!("{}.mp", sample.name)).collect();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(
            names.contains(&name),
            "{name} belongs to no message: codes are never dropped within a version"
        );
    }
}

/// Same numbers on every run (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() % limit.max(1)
    }
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next() as u8),
            2 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            // Markers of long strings, blobs, arrays and maps: claims that nobody paid for.
            3 if !bytes.is_empty() => bytes[at] = [0xdf, 0xdd, 0xdb, 0xc6, 0xc9, 0x80, 0xc1][random.below(7)],
            4 => bytes.extend_from_slice(&seeds[random.below(seeds.len())]),
            5 => {
                let nested = std::iter::repeat_n(0x91u8, random.below(3000));
                bytes.splice(at..at, nested);
            }
            _ if bytes.len() > 8 => bytes[at] = 0xff,
            _ => {}
        }
    }
    // Half of them keep a true length, so that the payload is reached.
    if random.below(2) == 0 && bytes.len() > 16 {
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
    }
}

#[test]
fn twenty_thousand_mutated_frames_do_no_harm() {
    let seeds: Vec<Vec<u8>> = samples::all().iter().map(|sample| golden(&sample.name)).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut whole, mut refused) = (0u32, 0u32);
    let before_kb = peak_kb();
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        mutate(&mut bytes, &seeds, &mut random);
        let mut decoder = FrameDecoder::default();
        let side = if round % 2 == 0 { Side::Supervisor } else { Side::Worker };
        let mut link = LinkState::new(side, LinkRules::default());
        let (mut rest, mut consumed) = (&bytes[..], 0);
        while !rest.is_empty() {
            let take = (1 + random.below(200)).min(rest.len());
            decoder.feed(&rest[..take]);
            rest = &rest[take..];
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => {
                        consumed += frame.wire_bytes();
                        whole += 1;
                        let errors = samples::decode_everywhere(frame.code, &frame.payload);
                        refused += u32::from(errors.iter().all(Option::is_some));
                        let _ = link.received(frame, 0);
                        while link.next_delivery().is_some() {}
                    }
                    Ok(None) => break,
                    Err(_) => {
                        // The stream has no border to go on from.
                        rest = &[];
                        consumed = bytes.len() - decoder.unfinished_bytes().min(bytes.len());
                        break;
                    }
                }
            }
            assert!(decoder.capacity_bytes() <= 256 * 1024, "{} bytes held", decoder.capacity_bytes());
        }
        assert!(consumed <= bytes.len());
    }
    assert!(
        whole > 5_000 && refused > 1_000,
        "the mutations reach the payloads: {whole} whole, {refused} refused"
    );
    let grown_kb = peak_kb().saturating_sub(before_kb);
    assert!(grown_kb < 32 * 1024, "peak memory grew by {grown_kb} KiB");
}

fn peak_kb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn claims_of_gigabytes_and_deep_nesting_are_refused_at_once() {
    use proto::wire::{Wire, agent::SupToAgent};
    let huge_array = [0x81, 0xa6, b'i', b'n', b'p', b'u', b't', b's', 0xdd, 0xff, 0xff, 0xff, 0xff];
    assert!(SupToAgent::decode(0x0310, &huge_array).is_err());
    let mut deep = vec![0x81, 0xa1, b'x'];
    deep.extend(std::iter::repeat_n(0x91, 200_000));
    assert!(SupToAgent::decode(0x0302, &deep).is_err());
    let mut trailing = SupToAgent::Drain(proto::wire::agent::Drain { deadline_ms: 1 }).encode();
    trailing.push(0xc0);
    assert!(SupToAgent::decode(0x0302, &trailing).is_err());
    let mut out = BytesMut::new();
    samples::all()[0].frame.encode(&mut out).unwrap();
    assert_eq!(one_frame(&out).payload, samples::all()[0].frame.payload);
}
