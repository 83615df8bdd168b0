use super::*;
use proptest::prelude::*;

fn frame_strategy() -> impl Strategy<Value = Frame> {
    let class = prop_oneof![Just(Class::Control), Just(Class::Durable), Just(Class::Lossy)];
    (any::<u16>(), class, any::<u8>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..3000))
        .prop_map(|(code, class, flags, corr, payload)| Frame {
            code,
            class,
            flags: Flags(flags),
            corr,
            payload: payload.into(),
        })
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_gives_the_same_frames(
        frames in proptest::collection::vec(frame_strategy(), 1..6),
        cuts in proptest::collection::vec(1usize..700, 1..40),
    ) {
        let mut bytes = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut bytes).unwrap();
        }
        let mut decoder = FrameDecoder::default();
        let mut found = Vec::new();
        let mut cuts = cuts.into_iter().cycle();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let take = cuts.next().unwrap().min(rest.len());
            decoder.feed(&rest[..take]);
            rest = &rest[take..];
            while let Some(frame) = decoder.next_frame().unwrap() {
                found.push(frame);
            }
        }
        prop_assert_eq!(found, frames);
        prop_assert_eq!(decoder.unfinished_bytes(), 0);
    }
}

#[test]
fn a_claim_over_the_limit_is_refused_before_it_is_paid() {
    let mut decoder = FrameDecoder::default();
    decoder.feed(&u32::MAX.to_le_bytes());
    assert!(matches!(decoder.next_frame(), Err(FrameError::TooLarge { .. })));
    assert!(decoder.capacity_bytes() < READ_STEP_BYTES);
}

#[test]
fn a_large_claim_costs_only_what_arrived() {
    let mut decoder = FrameDecoder::default();
    decoder.feed(&(FRAME_BYTES_MAX as u32).to_le_bytes());
    decoder.feed(&[0; 8]);
    assert_eq!(decoder.next_frame(), Ok(None));
    decoder.room();
    assert!(decoder.capacity_bytes() <= 2 * READ_STEP_BYTES);
}

#[test]
fn the_largest_frame_passes_and_one_more_byte_does_not() {
    let fits = FRAME_BYTES_MAX - FRAME_HEADER_BYTES;
    let frame = |len: usize| Frame {
        code: 1,
        class: Class::Durable,
        flags: Flags::NONE,
        corr: 0,
        payload: vec![0; len].into(),
    };
    let mut out = BytesMut::new();
    frame(fits).encode(&mut out).unwrap();
    let mut decoder = FrameDecoder::default();
    decoder.feed(&out);
    assert_eq!(decoder.next_frame().unwrap().unwrap().payload.len(), fits);
    assert!(matches!(frame(fits + 1).encode(&mut out), Err(FrameError::TooLarge { .. })));
}

#[test]
fn a_short_length_and_an_unknown_class_end_the_stream() {
    let mut decoder = FrameDecoder::default();
    decoder.feed(&11u32.to_le_bytes());
    assert_eq!(decoder.next_frame(), Err(FrameError::Short { bytes: 11 }));
    let mut decoder = FrameDecoder::default();
    decoder.feed(&[20, 0, 0, 0, 1, 0, 7]);
    assert_eq!(decoder.next_frame(), Err(FrameError::Class(7)));
}

#[test]
fn flags_print_by_name() {
    assert_eq!(format!("{:?}", Flags::IS_RESPONSE.with(Flags::ERROR)), r#"["IS_RESPONSE", "ERROR"]"#);
}
