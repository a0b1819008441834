//! Frames: what is written is read, and whatever else comes does no harm.

use nh_guest::protocol::{Frame, FrameError, HEADER_BYTES, MAX_PAYLOAD, Request, decode, encode};
use proptest::prelude::*;

fn frames() -> impl Strategy<Value = Frame> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        bytes().prop_map(Frame::Data),
        bytes().prop_map(Frame::Out),
        bytes().prop_map(Frame::Error),
        bytes().prop_map(Frame::Artifact),
        any::<u32>().prop_map(Frame::Credit),
        any::<String>().prop_map(|path| Frame::Request(Request::ReadFile { path })),
        any::<u16>().prop_map(|port| Frame::Request(Request::Connect { port })),
        Just(Frame::End),
        Just(Frame::Cancel),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(sent in prop::collection::vec((any::<u32>(), frames()), 0..8), cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        for (stream, frame) in &sent {
            encode(*stream, frame, &mut bytes).expect("a frame");
        }
        let mut at = 0;
        for (stream, frame) in &sent {
            let (read_stream, read, length) = decode(&bytes[at..]).expect("frames").expect("whole");
            prop_assert_eq!((&read_stream, &read), (stream, frame));
            // Whatever part of it has come, the rest is waited for.
            let part = cut.index(length);
            prop_assert!(decode(&bytes[at..at + part]).expect("no error").is_none());
            at += length;
        }
        prop_assert_eq!(at, bytes.len());
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0_u8..12) {
        let _ = decode(&bytes);
        let mut framed = (bytes.len() as u32).to_le_bytes().to_vec();
        framed.extend_from_slice(&[1, 0, 0, 0, kind]);
        framed.extend_from_slice(&bytes);
        if let Ok(Some((_, _, length))) = decode(&framed) {
            prop_assert_eq!(length, framed.len());
        }
    }
}

#[test]
fn a_frame_is_bounded_before_it_comes() {
    let mut header = (MAX_PAYLOAD as u32 + 1).to_le_bytes().to_vec();
    header.extend_from_slice(&[0; HEADER_BYTES - 4]);
    assert!(matches!(decode(&header), Err(FrameError::TooLong(_))));
    let long = Frame::Data(vec![0; MAX_PAYLOAD + 1]);
    assert!(matches!(encode(1, &long, &mut Vec::new()), Err(FrameError::TooLong(_))));
}
