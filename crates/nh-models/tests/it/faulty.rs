//! Everything that providers do wrong, each whole and as a stream: what the client is told, and
//! what is billed.

use std::time::Duration;

use nh_models::{ModelError, ProviderKind, ResolvedProvider, Timeouts};
use nh_testkit::upstream::{Part, Reply, Resetting, Upstream, chunk, refusing};
use nh_types::{ApiError, Timestamp};
use serde_json::{Value, json};

use crate::harness::{Hub, caller, chunks, frames, hello, hello_streamed, hub, provider};

/// Enough for this machine, and no long wait for a test.
const SHORT: Timeouts = Timeouts { connect_ms: 2_000, first_byte_ms: 300, pause_ms: 300 };
/// Nothing may take longer.
const HANGS: Duration = Duration::from_secs(20);

/// What a call's row says of its tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Billed {
    Nothing,
    Exactly(u64, u64),
    /// What is known is a guess, with this much output at least.
    Guessed(u64),
}

/// What the client sees.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    /// A whole answer with this text.
    Answer(&'static str),
    /// An error of this code, before any byte of an answer.
    Error(&'static str),
    /// This text, and then an error of this code.
    Cut(&'static str, &'static str),
}

fn says(text: &str) -> Value {
    chunk(json!({"content": text}), None)
}

fn begun() -> Reply {
    Reply::chunks(&[chunk(json!({"role": "assistant", "content": ""}), None), says("Hel")])
}

fn ended(reply: Reply) -> Reply {
    reply.then(Part::json(&says("lo"))).then(Part::json(&chunk(json!({}), Some("stop"))))
}

fn usage() -> Value {
    json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10})
}

fn with_usage(choices: Value) -> Part {
    let mut last = chunk(json!({}), Some("stop"));
    if choices.as_array().is_some_and(Vec::is_empty) {
        last["choices"] = choices;
    }
    last["usage"] = usage();
    Part::json(&last)
}

fn whole(text: &str) -> Value {
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": usage()})
}

/// A whole stream as bytes, in pieces of `size`.
fn in_pieces(size: usize) -> Reply {
    let text = format!(
        "data: {}\n\n: still here\n\ndata: {}\r\n\r\ndata: {}\n\ndata: [DONE]\n\n",
        chunk(json!({"role": "assistant", "content": "Grüße, "}), None),
        says("世界 👋"),
        {
            let mut last = chunk(json!({}), Some("stop"));
            last["usage"] = usage();
            last
        }
    );
    Reply::Stream(text.as_bytes().chunks(size).map(|piece| Part::Raw(piece.to_vec())).collect())
}

fn whole_cases() -> Vec<(&'static str, Reply, Seen, Billed)> {
    use Billed::{Exactly, Guessed, Nothing};
    let limited = Reply::error(429, "rate_limit_exceeded", "slow down");
    vec![
        ("well", Reply::json(200, &whole("Hello")), Seen::Answer("Hello"), Exactly(7, 3)),
        ("slow", Reply::Silent, Seen::Error("upstream_timeout"), Guessed(0)),
        (
            "no JSON",
            Reply::Whole(200, vec![], "<html>".to_owned()),
            Seen::Error("upstream_error"),
            Guessed(0),
        ),
        ("no choices", Reply::json(200, &json!({"choices": []})), Seen::Error("upstream_error"), Guessed(0)),
        (
            "usage and no choices",
            Reply::json(200, &json!({"choices": [], "usage": usage()})),
            Seen::Error("upstream_error"),
            Exactly(7, 3),
        ),
        (
            "no usage",
            Reply::json(200, &json!({"choices": [{"message": {"content": "Hello, you"}}]})),
            Seen::Answer("Hello, you"),
            Guessed(1),
        ),
        (
            "an error as an answer",
            Reply::json(200, &json!({"error": {"message": "no"}})),
            Seen::Error("upstream_error"),
            Nothing,
        ),
        (
            "an error that is billed",
            Reply::json(200, &json!({"error": {"message": "no"}, "usage": usage()})),
            Seen::Error("upstream_error"),
            Exactly(7, 3),
        ),
        ("429", limited.clone(), Seen::Error("rate_limited"), Nothing),
        ("429 with a pause", limited.with_header("retry-after", "20"), Seen::Error("rate_limited"), Nothing),
        ("500", Reply::error(500, "oops", "broken"), Seen::Error("upstream_error"), Nothing),
        ("400", Reply::error(400, "bad", "no such field"), Seen::Error("invalid_request"), Nothing),
        ("401", Reply::error(401, "key", "bad key"), Seen::Error("upstream_refused"), Nothing),
        (
            "gzip",
            Reply::json(200, &whole("Hello")).with_header("content-encoding", "gzip"),
            Seen::Answer("Hello"),
            Exactly(7, 3),
        ),
        (
            "gzip that is none",
            Reply::json(200, &whole("Hello")).with_header("content-encoding", "x-gzip"),
            Seen::Error("upstream_error"),
            Guessed(0),
        ),
    ]
}

fn stream_cases() -> Vec<(&'static str, Reply, Seen, Billed)> {
    use Billed::{Exactly, Guessed, Nothing};
    let calls = |number: usize| {
        let call =
            json!({"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}});
        let piece = |text: String| json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]});
        let mut all = vec![chunk(json!({"role": "assistant", "content": null, "tool_calls": [call]}), None)];
        all.extend((0..number).map(|number| chunk(piece((number % 10).to_string()), None)));
        Reply::chunks(&all)
    };
    let packed = format!("data: {}\n\ndata: {}\n\ndata: [DONE]\n\n", says("Hello"), {
        let mut last = chunk(json!({}), Some("stop"));
        last["usage"] = usage();
        last
    });
    let packed = Reply::Whole(
        200,
        vec![("content-type", "text/event-stream".to_owned()), ("content-encoding", "gzip".to_owned())],
        packed,
    );
    let broken = "upstream_error";
    vec![
        ("well", ended(begun()).then(with_usage(json!([]))).done(), Seen::Answer("Hello"), Exactly(7, 3)),
        (
            "usage with choices",
            begun().then(Part::json(&says("lo"))).then(with_usage(json!(null))).done(),
            Seen::Answer("Hello"),
            Exactly(7, 3),
        ),
        ("no usage", ended(begun()).done(), Seen::Answer("Hello"), Guessed(1)),
        (
            "usage and no choices",
            Reply::Stream(vec![Part::Raw(
                format!("data: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": usage()}))
                    .into_bytes(),
            )]),
            Seen::Error(broken),
            Exactly(7, 3),
        ),
        ("never begins", Reply::Silent, Seen::Error("upstream_timeout"), Guessed(0)),
        ("stops to speak", begun().then(Part::Hang), Seen::Cut("Hel", "upstream_timeout"), Guessed(1)),
        ("cut", begun().then(Part::Cut), Seen::Cut("Hel", broken), Guessed(1)),
        ("ends early", begun(), Seen::Cut("Hel", broken), Guessed(1)),
        ("garbage", begun().then(Part::Data("{\"a\":".to_owned())), Seen::Cut("Hel", broken), Guessed(1)),
        (
            "an error frame",
            begun().then(Part::json(&json!({"error": {"message": "busy", "code": 502}}))),
            Seen::Cut("Hel", broken),
            Guessed(1),
        ),
        (
            "at once an error frame",
            Reply::chunks(&[json!({"error": {"message": "no credit", "code": 402}})]),
            Seen::Error("upstream_refused"),
            Nothing,
        ),
        ("429", Reply::error(429, "rate", "slow down"), Seen::Error("rate_limited"), Nothing),
        ("borders anywhere", in_pieces(1), Seen::Answer("Grüße, 世界 👋"), Exactly(7, 3)),
        ("borders elsewhere", in_pieces(7), Seen::Answer("Grüße, 世界 👋"), Exactly(7, 3)),
        ("gzip", packed, Seen::Answer("Hello"), Exactly(7, 3)),
        (
            "ten thousand pieces of a call",
            calls(10_000).then(with_usage(json!(null))).done(),
            Seen::Answer(""),
            Exactly(7, 3),
        ),
        ("a call that is cut", calls(100).then(Part::Cut), Seen::Cut("", broken), Guessed(25)),
        (
            "an endless line",
            begun().then(Part::Raw(vec![b'x'; 9_000_000])),
            Seen::Cut("Hel", broken),
            Guessed(1),
        ),
    ]
}

fn hub_at(base_url: &str) -> Hub {
    hub(vec![ResolvedProvider { timeouts: SHORT, ..provider("mock", ProviderKind::Openai, base_url) }])
}

async fn check_bill(hub: Hub, billed: Billed, name: &str) {
    let Hub { models, mut rows, .. } = hub;
    drop(models);
    let row = rows.next_row().await;
    let found = match &row {
        None => Billed::Nothing,
        Some(row) if !row.estimated => Billed::Exactly(row.usage.input_tokens, row.usage.output_tokens),
        Some(row) => Billed::Guessed(row.usage.output_tokens),
    };
    match (found, billed) {
        (Billed::Guessed(found), Billed::Guessed(least)) => assert!(found >= least, "{name}: {found}"),
        (found, billed) => assert_eq!(found, billed, "{name}"),
    }
    if let Some(row) = row {
        let cost = (row.usage.input_tokens as f64 * 2.0 + row.usage.output_tokens as f64 * 10.0) / 1e6;
        assert!((row.usage.cost_usd.expect("a cost") - cost).abs() < 1e-12, "{name}");
        assert_eq!(row.workspace_id, caller().workspace_id);
        assert!(row.at > Timestamp::default() && rows.next_row().await.is_none(), "{name}: billed twice");
    }
}

fn code(error: ModelError) -> String {
    ApiError::from(error).code.as_str().to_owned()
}

async fn check_whole(base_url: &str, name: &str, seen: Seen, billed: Billed) {
    let hub = hub_at(base_url);
    let answer = tokio::time::timeout(HANGS, hub.chat(hello("priced"))).await.expect(name);
    match (answer, seen) {
        (Ok(answer), Seen::Answer(text)) => {
            assert_eq!(answer["choices"][0]["message"]["content"], text, "{name}")
        }
        (Err(error), Seen::Error(expected)) => assert_eq!(code(error), expected, "{name}"),
        (answer, _) => panic!("{name}: {answer:?}"),
    }
    check_bill(hub, billed, name).await;
}

async fn check_stream(base_url: &str, name: &str, seen: Seen, billed: Billed) {
    let hub = hub_at(base_url);
    let stream = tokio::time::timeout(HANGS, hub.stream(hello_streamed("priced"))).await.expect(name);
    let (text, expected, end) = match (stream, seen) {
        (Err(error), Seen::Error(expected)) => {
            assert_eq!(code(error), expected, "{name}");
            return check_bill(hub, billed, name).await;
        }
        (Ok(text), Seen::Answer(expected)) => (text, expected, None),
        (Ok(text), Seen::Cut(expected, end)) => (text, expected, Some(end)),
        (stream, _) => panic!("{name}: {stream:?}"),
    };
    let all = chunks(&text);
    let said: String =
        all.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, expected, "{name}");
    match end {
        None => assert_eq!(frames(&text).last().map(String::as_str), Some("[DONE]"), "{name}"),
        Some(end) => assert_eq!(all.last().expect("a frame")["error"]["code"], end, "{name}"),
    }
    check_bill(hub, billed, name).await;
}

#[tokio::test]
async fn whole_answers_of_a_faulty_provider() {
    for (name, reply, seen, billed) in whole_cases() {
        let upstream = Upstream::start().await.expect("a port");
        (0..3).for_each(|_| upstream.reply(reply.clone()));
        check_whole(&upstream.base_url(), name, seen, billed).await;
    }
}

#[tokio::test]
async fn streams_of_a_faulty_provider() {
    for (name, reply, seen, billed) in stream_cases() {
        let upstream = Upstream::start().await.expect("a port");
        (0..3).for_each(|_| upstream.reply(reply.clone()));
        check_stream(&upstream.base_url(), name, seen, billed).await;
    }
}

#[tokio::test]
async fn providers_that_are_not_there() {
    let resetting = Resetting::start().await.expect("a port");
    let refusing = refusing().await.expect("an address");
    for (name, base_url) in [("refused", &refusing), ("reset", &resetting.base_url)] {
        check_whole(base_url, name, Seen::Error("upstream_error"), Billed::Nothing).await;
        check_stream(base_url, name, Seen::Error("upstream_error"), Billed::Nothing).await;
    }
}
