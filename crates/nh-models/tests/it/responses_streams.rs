//! Responses that stream, and how streams end.

use nh_models::{ModelError, ProviderKind};
use nh_testkit::upstream::{Part, Reply, chunk};
use serde_json::{Value, json};

use crate::harness::hub_of;
use crate::responses_check::{ask, last};

fn kinds(events: &[Value]) -> Vec<&str> {
    let names = events.iter().filter_map(|event| event["type"].as_str());
    names.map(|name| name.trim_start_matches("response.")).collect()
}

async fn streamed(reply: Reply) -> Vec<Value> {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    upstream.reply(reply);
    hub.respond_streamed(ask(json!("x"))).await.expect("a stream")
}

#[tokio::test]
async fn a_text_streams() {
    let events = streamed(
        Reply::chunks(&[
            chunk(json!({"role": "assistant", "content": ""}), None),
            chunk(json!({"content": "He"}), None),
            chunk(json!({"content": "y"}), None),
            chunk(json!({}), Some("stop")),
        ])
        .done(),
    )
    .await;
    assert_eq!(
        kinds(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    let begun = &events[0]["response"];
    assert_eq!(
        (&begun["created_at"], &begun["output"], &begun["usage"]),
        (&json!(5), &json!([]), &Value::Null)
    );
    assert_eq!(last(&events)["usage"]["total_tokens"].as_u64().map(|count| count > 0), Some(true));
}

#[tokio::test]
async fn parallel_calls_stream_beside_each_other() {
    let call =
        |index: u64, piece: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]});
    let begin = |index: u64, id: &str| {
        json!({"tool_calls": [{"index": index, "id": id, "type": "function",
        "function": {"name": "f", "arguments": ""}}]})
    };
    let events = streamed(
        Reply::chunks(&[
            chunk(json!({"role": "assistant", "content": null, "reasoning": "Hm"}), None),
            chunk(begin(0, "a"), None),
            chunk(begin(1, "b"), None),
            chunk(call(1, "{\"y\""), None),
            chunk(call(0, "{}"), None),
            chunk(call(1, ":2}"), None),
            chunk(json!({}), Some("tool_calls")),
        ])
        .done(),
    )
    .await;
    let output = &last(&events)["output"];
    assert_eq!(output[0]["summary"], json!([{"type": "summary_text", "text": "Hm"}]));
    assert_eq!((&output[1]["call_id"], &output[1]["arguments"]), (&json!("a"), &json!("{}")));
    assert_eq!((&output[2]["call_id"], &output[2]["arguments"]), (&json!("b"), &json!("{\"y\":2}")));
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_the_last_event() {
    let half = [chunk(json!({"role": "assistant", "content": "Half"}), None)];
    let broken = Part::Data(json!({"error": {"message": "it broke", "code": 502}}).to_string());
    for reply in
        [Reply::chunks(&half).then(Part::Cut), Reply::chunks(&half).then(broken), Reply::chunks(&half)]
    {
        let events = streamed(reply).await;
        assert_eq!(kinds(&events).last(), Some(&"failed"));
        let response = last(&events);
        assert_eq!(response["error"]["code"], "server_error");
        assert!(
            response["error"]["message"].as_str().is_some_and(|text| text.contains("mock")),
            "{response}"
        );
        assert_eq!(response["output"][0]["status"], "incomplete");
        assert_eq!(response["output"][0]["content"][0]["text"], "Half");
    }
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    upstream.reply(Reply::error(400, "bad", "no"));
    assert!(matches!(hub.respond_streamed(ask(json!("x"))).await, Err(ModelError::Rejected { .. })));
}

#[tokio::test]
async fn log_probabilities_are_told_where_they_were_asked_for() {
    let told = json!([{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}]);
    let mut piece = chunk(json!({"role": "assistant", "content": "Hi"}), None);
    piece["choices"][0]["logprobs"] = json!({"content": told});
    let events = streamed(Reply::chunks(&[piece, chunk(json!({}), Some("stop"))]).done()).await;
    assert_eq!(last(&events)["output"][0]["content"][0]["logprobs"], told);
}
