//! Streams, and every way that they go wrong.

use nh_models::ProviderKind;
use nh_testkit::upstream::{Part, Reply, chunk};
use nh_types::ApiError;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{caller, chunks, frames, hello_streamed, hub_of, object};

async fn stream_of(kind: ProviderKind, reply: Reply) -> String {
    let (hub, upstream) = hub_of(kind).await;
    upstream.reply(reply);
    hub.stream(hello_streamed("priced")).await.expect("a stream")
}

fn is_done(stream: &str) -> bool {
    frames(stream).last().is_some_and(|frame| frame == "[DONE]")
}

fn text(stream: &str) -> String {
    chunks(stream).iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

/// The error of a stream's last frame.
fn error(stream: &str) -> Value {
    let last = frames(stream).pop().expect("a frame");
    let last: Value = serde_json::from_str(&last).expect("JSON, not [DONE]");
    last["error"].clone()
}

fn role() -> Value {
    chunk(json!({"role": "assistant", "content": ""}), None)
}

fn says(content: &str) -> Value {
    chunk(json!({"content": content}), None)
}

fn stop() -> Value {
    chunk(json!({}), Some("stop"))
}

#[tokio::test]
async fn a_stream_has_openais_form_and_usage_only_when_asked_for() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    let stream = hub.stream(hello_streamed("mock-1")).await.expect("a stream");
    assert!(is_done(&stream));
    assert_eq!(text(&stream), "Hello!");
    for chunk in chunks(&stream) {
        assert_eq!(chunk["id"], "chatcmpl-1");
        assert!(chunk.get("usage").is_none());
        assert_eq!(chunk["choices"].as_array().map(Vec::len), Some(1));
    }
    assert_eq!(upstream.calls()[0].body["stream_options"], json!({"include_usage": true}));

    let mut body = hello_streamed("mock-1");
    body["stream_options"] = json!({"include_usage": true, "include_obfuscation": false});
    let stream = hub.stream(body).await.expect("a stream");
    let last = chunks(&stream).pop().expect("a chunk");
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(11)));
    assert_eq!(upstream.calls()[1].body["stream_options"]["include_obfuscation"], false);
}

#[tokio::test]
async fn what_needs_no_change_goes_through_byte_for_byte() {
    let odd = r#"{"id":"chatcmpl-1", "object":"chat.completion.chunk","created":1770379200,"model":"m","choices":[{"index":0,"delta":{"content":"  \u00e4 "},"logprobs":null,"new":[1.50]}],"system_fingerprint":"x"}"#;
    let stream = stream_of(
        ProviderKind::Openai,
        Reply::chunks(&[role()]).then(Part::Data(odd.to_owned())).then(Part::json(&stop())).done(),
    )
    .await;
    assert!(stream.contains(&format!("data: {odd}\n\n")), "{stream}");
}

#[tokio::test]
async fn what_a_provider_leaves_out_is_put_in() {
    let bare = |delta: Value| json!({"choices": [{"delta": delta}]});
    let reply = Reply::chunks(&[bare(json!({"content": "Hi"})), bare(json!({"content": " you"}))]).done();
    let stream = stream_of(ProviderKind::Openai, reply).await;
    let chunks = chunks(&stream);
    assert_eq!(chunks.len(), 3);
    assert!(is_done(&stream));
    let id = chunks[0]["id"].as_str().expect("an id");
    assert!(id.starts_with("chatcmpl-"));
    for chunk in &chunks {
        assert_eq!(chunk["id"], id);
        assert_eq!((&chunk["created"], &chunk["model"]), (&json!(1_770_379_200), &json!("priced")));
        assert_eq!(
            (&chunk["object"], &chunk["choices"][0]["index"]),
            (&json!("chat.completion.chunk"), &json!(0))
        );
    }
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(chunks[1]["choices"][0]["delta"].get("role").is_none());
    assert_eq!(chunks[2]["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn tool_calls_that_come_whole_get_an_index_and_an_end() {
    let call = |name: &str, id: &str| {
        json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"},
            "extra_content": {"google": {"thought_signature": "sig"}}})
    };
    let reply = Reply::chunks(&[
        chunk(json!({"role": "assistant", "tool_calls": [call("a", "x1"), call("b", "")]}), None),
        chunk(json!({"role": "assistant", "tool_calls": [call("c", "x3")]}), None),
        chunk(json!({"role": "assistant"}), Some("stop")),
    ])
    .done();
    let stream = stream_of(ProviderKind::Openai, reply).await;
    let chunks = chunks(&stream);
    let calls: Vec<&Value> = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten())
        .collect();
    let indexes: Vec<_> = calls.iter().map(|call| call["index"].as_u64()).collect();
    assert_eq!(indexes, [Some(0), Some(1), Some(2)]);
    assert!(calls[1]["id"].as_str().is_some_and(|id| id.starts_with("call_")));
    assert!(calls.iter().all(|call| call["extra_content"]["google"]["thought_signature"] == "sig"));
    assert_eq!(chunks.last().expect("a chunk")["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn pieces_of_a_tool_call_keep_their_place() {
    let piece = |delta: Value| chunk(json!({"tool_calls": [delta]}), None);
    let mut parts = vec![
        role(),
        piece(
            json!({"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": ""}}),
        ),
    ];
    parts.extend((0..10_000).map(|_| piece(json!({"index": 0, "function": {"arguments": "ab"}}))));
    let mut with_usage = piece(json!({"index": 0, "function": {"arguments": "!"}}));
    with_usage["usage"] = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
    parts.push(with_usage);
    parts.push(chunk(json!({}), Some("tool_calls")));
    let stream = stream_of(ProviderKind::Openai, Reply::chunks(&parts).done()).await;
    let chunks = chunks(&stream);
    assert!(is_done(&stream));
    let calls = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten());
    let arguments: String = calls.clone().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(arguments, format!("{}!", "ab".repeat(10_000)));
    assert_eq!(calls.filter(|call| call.get("id").is_some()).count(), 1);
}

#[tokio::test]
async fn failures_in_mid_stream_are_an_error_frame_and_no_end() {
    let begun = || Reply::chunks(&[role(), says("Hel")]);
    for (reply, code, words) in [
        (begun().then(Part::Cut), "upstream_error", "broke off"),
        (begun(), "upstream_error", "in the middle"),
        (begun().then(Part::Data("not json".to_owned())), "upstream_error", "not json"),
        (begun().then(Part::Data("[1]".to_owned())), "upstream_error", "not a JSON object"),
        (
            begun().then(Part::json(&json!({"error": {"message": "overloaded", "code": 502}}))),
            "upstream_error",
            "overloaded",
        ),
        (
            begun().then(Part::json(&json!({"error": {"message": "slow", "code": 429}}))),
            "rate_limited",
            "slow",
        ),
        (begun().then(Part::Raw(b"data: ".repeat(2_000_000))), "upstream_error", "longer than"),
    ] {
        let stream = stream_of(ProviderKind::Openrouter, reply).await;
        let error = error(&stream);
        assert_eq!(error["code"], code, "{words}");
        assert!(error["message"].as_str().expect("a text").contains(words), "{error}");
        assert_eq!(&text(&stream), "Hel");
    }
}

#[tokio::test]
async fn failures_before_the_first_byte_are_plain_errors() {
    for (reply, status) in [
        (Reply::error(400, "bad", "no"), 400),
        (Reply::error(429, "rate", "slow"), 429),
        (Reply::chunks(&[json!({"error": {"message": "no credit", "code": 402}})]), 502),
        (Reply::Stream(vec![Part::Cut]), 502),
        (Reply::Stream(vec![]), 502),
        (Reply::Stream(vec![]).done(), 502),
        (Reply::Stream(vec![Part::Data("garbage".to_owned())]), 502),
        (Reply::json(200, &json!({"error": {"message": "odd"}})), 502),
    ] {
        let (hub, upstream) = hub_of(ProviderKind::Openrouter).await;
        let shown = format!("{reply:?}");
        (0..3).for_each(|_| upstream.reply(reply.clone()));
        let error = hub.stream(hello_streamed("priced")).await.expect_err("an error");
        assert_eq!(ApiError::from(error).code.status(), status, "{shown}");
    }
}

#[tokio::test]
async fn ends_that_are_only_odd_are_mended() {
    // No [DONE], but a finish reason.
    let stream = stream_of(ProviderKind::Openai, Reply::chunks(&[role(), says("Hi"), stop()])).await;
    assert!(is_done(&stream));
    // No empty line after the last frame.
    let reply = Reply::chunks(&[role(), says("Hi"), stop()]).then(Part::Raw(b"data: [DONE]".to_vec()));
    assert!(is_done(&stream_of(ProviderKind::Openai, reply).await));
    // [DONE] without a finish reason.
    let stream = stream_of(ProviderKind::Openai, Reply::chunks(&[role(), says("Hi")]).done()).await;
    assert_eq!(chunks(&stream).last().expect("a chunk")["choices"][0]["finish_reason"], "stop");
    // What follows [DONE] is nobody's.
    let stream = stream_of(
        ProviderKind::Openai,
        Reply::chunks(&[role(), says("Hi"), stop()]).done().then(Part::json(&says("!"))),
    )
    .await;
    assert_eq!(text(&stream), "Hi");
}

#[tokio::test]
async fn comments_keep_the_client_alive_and_a_megabyte_is_no_matter() {
    let long = "x".repeat(1_000_000);
    let mut parts = vec![Part::comment("OPENROUTER PROCESSING")];
    parts.extend([role(), says(&long), stop()].iter().map(Part::json));
    let stream = stream_of(ProviderKind::Openrouter, Reply::Stream(parts).done()).await;
    assert!(stream.starts_with(": keep-alive\n\n"));
    assert_eq!(text(&stream).len(), long.len());
    assert!(is_done(&stream));
}

#[tokio::test]
async fn several_choices_each_get_a_role_and_an_end() {
    let both = |delta: Value| {
        let mut chunk = says("");
        chunk["choices"] = json!([{"index": 0, "delta": delta}, {"index": 1, "delta": delta}]);
        chunk
    };
    let stream = stream_of(
        ProviderKind::Openai,
        Reply::chunks(&[both(json!({"content": "a"})), both(json!({"content": "b"}))]).done(),
    )
    .await;
    let chunks = chunks(&stream);
    assert_eq!(chunks[0]["choices"][1]["delta"]["role"], "assistant");
    let ends: Vec<_> = chunks
        .iter()
        .filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop")
        .map(|chunk| chunk["choices"][0]["index"].as_u64())
        .collect();
    assert_eq!(ends, [Some(0), Some(1)]);
    let absurd = json!({"choices": [{"index": 4_000_000_000_u32, "delta": {"content": "x"}}]});
    let stream = stream_of(ProviderKind::Openai, Reply::chunks(&[role(), absurd]).done()).await;
    assert_eq!(error(&stream)["code"], "upstream_error");
}

#[tokio::test]
async fn a_client_that_goes_away_stops_the_provider() {
    use futures_util::StreamExt;
    let (mut hub, upstream) = hub_of(ProviderKind::Openai).await;
    upstream.reply(Reply::chunks(&[role(), says("eight by")]).then(Part::Hang));
    let body = object(hello_streamed("priced"));
    let mut stream = hub.models.chat_stream(&caller(), body).await.expect("a stream");
    let mut read = String::new();
    while !read.contains("eight by") {
        read.push_str(std::str::from_utf8(&stream.next().await.expect("bytes")).expect("UTF-8"));
    }
    drop(stream);
    upstream.abandoned().await;
    let row = hub.rows.next_row().await.expect("a row");
    assert!(row.estimated);
    assert_eq!(row.usage.output_tokens, 2);
    assert!(row.usage.input_tokens > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: nh_testkit::cases(32), failure_persistence: None, ..ProptestConfig::default() })]

    /// Wherever the network cuts: inside UTF-8, inside `data:`, inside line ends.
    #[test]
    fn borders_of_pieces_do_not_matter(content in "\\PC{0,40}", cuts in prop::collection::vec(1_usize..60, 1..40), crlf in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let whole: String = [role(), says(&content), stop()].iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
            let whole = format!("{whole}data: [DONE]\n\n");
            let whole = if crlf { whole.replace('\n', "\r\n") } else { whole };
            let mut rest = whole.as_bytes();
            let mut parts = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                parts.push(Part::Raw(head.to_vec()));
                rest = tail;
            }
            let stream = stream_of(ProviderKind::Openai, Reply::Stream(parts)).await;
            assert!(is_done(&stream));
            assert_eq!(text(&stream), content);
        });
    }

    /// Whatever comes: frames that are JSON, and one end or one error.
    #[test]
    fn nonsense_never_ends_as_if_complete(parts in prop::collection::vec(nonsense(), 0..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (hub, upstream) = hub_of(ProviderKind::Openai).await;
            upstream.reply(Reply::Stream(parts));
            if let Ok(stream) = hub.stream(hello_streamed("priced")).await {
                let last = frames(&stream).pop().expect("a frame");
                let chunks = chunks(&stream);
                assert!(last == "[DONE]" || chunks.last().expect("a chunk")["error"]["message"].is_string(), "{stream}");
                assert!(chunks.iter().all(|chunk| chunk.is_object()));
            }
        });
    }
}

fn nonsense() -> impl Strategy<Value = Part> {
    let delta = prop_oneof![
        Just(json!({"content": "x"})),
        Just(json!(null)),
        Just(json!({"tool_calls": [{"function": {"arguments": "x"}}]})),
        Just(json!({"tool_calls": [{"index": 99_999, "id": 7}]})),
        Just(json!({"role": null, "tool_calls": null})),
        Just(json!("text")),
    ];
    let index =
        prop_oneof![Just(json!(0)), Just(json!(1)), Just(json!(-1)), Just(json!("0")), Just(Value::Null)];
    let finish = prop_oneof![Just(Value::Null), Just(json!("stop")), Just(json!("")), Just(json!(7))];
    let choices = (delta, index, finish).prop_map(
        |(delta, index, finish)| json!([{"index": index, "delta": delta, "finish_reason": finish}]),
    );
    prop_oneof![
        6 => choices.prop_map(|choices| Part::json(&json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}))),
        1 => Just(Part::Data("[DONE]".to_owned())),
        1 => Just(Part::Data(String::new())),
        1 => Just(Part::Data("{\"choices\": 7}".to_owned())),
        1 => Just(Part::Data("{\"id\": 7, \"created\": \"x\", \"choices\": [[], null]}".to_owned())),
        1 => prop::collection::vec(any::<u8>(), 0..30).prop_map(Part::Raw),
        1 => Just(Part::Cut),
    ]
}

#[tokio::test]
async fn choices_that_are_none_do_no_harm() {
    let odd = json!({"choices": ["x", {"index": 0, "message": {"content": "Hi", "tool_calls": ["y"]}, "finish_reason": "stop"}]});
    let whole = Reply::json(200, &odd).always_whole();
    assert_eq!(text(&stream_of(ProviderKind::Openai, whole).await), "Hi");
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    let mut array = says("x");
    array["choices"] = json!([[0, {"content": "x"}, null]]);
    upstream.reply(Reply::chunks(&[role(), says("Hi"), array, stop()]).done());
    let silent = nh_models::Listener { is_heard: true, tell: &|_| {} };
    let body = object(hello_streamed("priced"));
    let answer = hub.models.chat_live(&caller(), &body, &silent).await.expect("an answer");
    assert_eq!(answer.body["choices"][0]["message"]["content"], "Hi");
    // A name that is repeated in each chunk is a short one.
    let mut long = role();
    long["id"] = json!("x".repeat(1_000_000));
    let stream = stream_of(ProviderKind::Openai, Reply::chunks(&[long, says("Hi"), stop()]).done()).await;
    assert!(stream.len() < 10_000 && text(&stream) == "Hi", "{}", stream.len());
}

/// Small values take many times their text in memory, and lists go on from chunk to chunk.
#[tokio::test]
async fn what_is_gathered_of_a_stream_is_bounded() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    let mut piece = says("x");
    piece["choices"][0]["delta"]["reasoning_details"] = json!(vec![0; 200_000]);
    upstream.reply(Reply::chunks(&vec![piece.clone(); 4]).done());
    let silent = nh_models::Listener { is_heard: true, tell: &|_| {} };
    let body = object(hello_streamed("priced"));
    let error = hub.models.chat_live(&caller(), &body, &silent).await.expect_err("an error");
    assert!(error.to_string().contains("more than 500000 values"), "{error}");
    piece["choices"][0]["delta"]["reasoning_details"] = json!(vec![0; 600_000]);
    upstream.reply(Reply::chunks(&[piece, stop()]).done());
    let error = hub.stream(hello_streamed("priced")).await.expect_err("an error");
    assert!(error.to_string().contains("more than 500000 values"), "{error}");
}
