use futures_util::StreamExt;
use nh_http::sse::{Decoder, Frame, SseError, SseLimits, frames};
use nh_http::{HttpError, Limits, Outbound};
use proptest::prelude::*;

use crate::server::{Server, get};

type Decoded = (Vec<Frame>, Option<SseError>);

fn decode_in<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: SseLimits) -> Decoded {
    let mut decoder = Decoder::new(limits);
    let mut decoded = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => decoded.push(frame),
                Ok(None) => break,
                Err(error) => return (decoded, Some(error)),
            }
        }
    }
    (decoded, None)
}

fn decode(text: &str) -> Vec<Frame> {
    let (decoded, error) = decode_in([text.as_bytes()], SseLimits::default());
    assert_eq!(error, None);
    decoded
}

fn data(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| frame.data.as_str()).collect()
}

#[test]
fn the_examples_of_the_standard() {
    assert_eq!(data(&decode("data: YHOO\ndata: +2\ndata: 10\n\n")), ["YHOO\n+2\n10"]);
    let stream =
        ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
    let frames = decode(stream);
    assert_eq!(data(&frames), ["first event", "second event", " third event"]);
    let ids: Vec<_> = frames.iter().map(|frame| frame.id.as_deref()).collect();
    assert_eq!(ids, [Some("1"), Some(""), Some("")]);
    assert_eq!(data(&decode("data\n\ndata\ndata\n\ndata:")), ["", "\n"]);
    assert_eq!(data(&decode("data:test\n\ndata: test\n\n")), ["test", "test"]);
}

#[test]
fn fields_comments_and_line_ends() {
    let frames = decode(
        "event: add\ndata: 1\n\nevent:\ndata: 2\r\rdata: 3\r\n\r\n: keep-alive\n\nevent: x\n\ndata: 4\n\n",
    );
    assert_eq!(data(&frames), ["1", "2", "3", "4"]);
    let events: Vec<_> = frames.iter().map(|frame| frame.event.as_deref()).collect();
    assert_eq!(events, [Some("add"), None, None, None]);
    assert_eq!(data(&decode("DATA: no\n data: no\nretry: 10\nother: x\n:\n\ndata:: yes\n\n")), [": yes"]);
    assert_eq!(decode("id: a\0b\ndata: x\n\n")[0].id, None, "an id with NUL is ignored");
    assert_eq!(data(&decode("\u{feff}data: bom\n\n\u{feff}data: no\n\n")), ["bom"]);
    assert_eq!(data(&decode("data: never ended\n")), Vec::<&str>::new());
    assert_eq!(data(&decode("data: {\"a\": \"ü€🦀\"}\n\n")), ["{\"a\": \"ü€🦀\"}"]);
}

#[test]
fn what_is_not_utf_8_is_replaced() {
    let (frames, _) = decode_in([&b"data: a\xff\xfeb\n\n"[..]], SseLimits::default());
    assert_eq!(data(&frames), ["a\u{fffd}\u{fffd}b"]);
}

const SMALL: SseLimits = SseLimits { max_line_bytes: 20, max_event_bytes: 30 };

#[test]
fn bounds_hold_and_what_came_before_is_given() {
    let endless = [b"data: ok\n\n".as_slice(), &[b'x'; 1_000]].concat();
    let (frames, error) = decode_in([endless.as_slice()], SMALL);
    assert_eq!(data(&frames), ["ok"]);
    assert_eq!(error, Some(SseError::LineTooLong { max_line_bytes: 20 }));
    let many = b"data: 0123456789\n".repeat(100);
    let (frames, error) = decode_in([many.as_slice()], SMALL);
    assert_eq!(data(&frames), Vec::<&str>::new());
    assert_eq!(error, Some(SseError::EventTooLarge { max_event_bytes: 30 }));
}

#[test]
fn an_error_stays() {
    let mut decoder = Decoder::new(SMALL);
    decoder.push(&[b'x'; 21]);
    for _ in 0..3 {
        assert!(decoder.next_frame().is_err());
        decoder.push(b"\n\ndata: late\n\n");
    }
}

/// Lines that look like events, and bytes that look like nothing.
fn hostile_stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"data: ".to_vec()),
        Just(b"data".to_vec()),
        Just(b"event: e".to_vec()),
        Just(b"id: 7".to_vec()),
        Just(b":".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n\n".to_vec()),
        Just(b"\xEF\xBB\xBF".to_vec()),
        Just("ü€🦀".as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(nh_testkit::cases(512)))]

    #[test]
    fn any_chunking_gives_the_same_frames(stream in hostile_stream(), sizes in prop::collection::vec(1usize..9, 1..8)) {
        for limits in [SseLimits::default(), SMALL] {
            let whole = decode_in([stream.as_slice()], limits);
            let mut pieces = Vec::new();
            let mut rest = stream.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(&decode_in(pieces, limits), &whole);
            let bytes = decode_in(stream.chunks(1), limits);
            prop_assert_eq!(&bytes, &whole);
        }
    }

    #[test]
    fn no_frame_is_over_its_bound(stream in hostile_stream()) {
        let (frames, _) = decode_in([stream.as_slice()], SMALL);
        for frame in frames {
            prop_assert!(frame.data.len() <= SMALL.max_event_bytes);
            prop_assert!(frame.event.unwrap_or_default().len() <= 3 * SMALL.max_line_bytes);
            prop_assert!(!frame.data.contains('\r'));
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(lines in prop::collection::vec("[^\r\n]{0,40}", 1..6)) {
        let mut text: String = lines.iter().map(|line| format!("data: {line}\n")).collect();
        text.push('\n');
        let frames = decode(&text);
        prop_assert_eq!(data(&frames), [lines.join("\n")]);
    }
}

#[tokio::test]
async fn a_body_gives_its_events_and_then_its_error() {
    let client = Outbound::operator().unwrap();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
    let server = Server::fixed(format!("{head}\r\ndata: 1\n\ndata: 2\n\ndata: unfinished")).await;
    let body = client.send(get(&server.url("/")), Limits::default()).await.unwrap().body;
    let events: Vec<_> = frames(body, SseLimits::default()).map(|frame| frame.unwrap().data).collect().await;
    assert_eq!(events, ["1", "2"]);

    let server = Server::fixed(format!("{head}content-length: 99\r\n\r\ndata: 1\n\n")).await;
    let body = client.send(get(&server.url("/")), Limits::default()).await.unwrap().body;
    let events: Vec<_> = frames(body, SseLimits::default()).collect().await;
    assert_eq!(events.len(), 2);
    assert!(events[0].is_ok());
    assert!(matches!(events[1], Err(HttpError::Broken { .. })), "a cut stream is told: {:?}", events[1]);
}
