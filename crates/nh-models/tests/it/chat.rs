//! Whole chat answers, and every way a provider can fail before or instead of
//! one.

use nh_models::{ModelError, ProviderKind};
use nh_testkit::upstream::{Reply, Resetting, refusing};
use nh_types::ApiError;
use serde_json::{Value, json};

use crate::harness::{hello, hub, hub_of, provider};

#[tokio::test]
async fn a_call_goes_through_with_everything_that_the_hub_does_not_know() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    let mut body = hello("mock-1");
    body["some_new_field"] = json!({"deep": [1, 2]});
    body["messages"][0]["name"] = json!("Ann");
    let answer = hub.chat(body).await.expect("an answer");
    assert_eq!(answer["choices"][0]["message"]["content"], "Hello!");
    assert_eq!(answer["usage"]["total_tokens"], 11);
    let calls = upstream.calls();
    assert_eq!(calls[0].path, "/v1/chat/completions");
    assert_eq!(calls[0].headers["authorization"], "Bearer sk-hub-secret");
    assert_eq!(
        calls[0].body,
        json!({"model": "mock-1", "messages": [{"role": "user", "content": "Hello!", "name": "Ann"}],
            "some_new_field": {"deep": [1, 2]}})
    );
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_by_field() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    for (body, param) in [
        (json!({"messages": [{"role": "user", "content": "x"}]}), "model"),
        (json!({"model": 7, "messages": []}), "model"),
        (json!({"model": "mock-1"}), "messages"),
        (json!({"model": "mock-1", "messages": []}), "messages"),
        (json!({"model": "mock-1", "messages": ["hi"]}), "messages[0].role"),
    ] {
        let error = ApiError::from(hub.chat(body).await.expect_err("an error"));
        assert_eq!((error.code.status(), error.param.as_deref()), (400, Some(param)));
    }
    assert!(upstream.calls().is_empty());
}

#[tokio::test]
async fn what_a_provider_leaves_out_is_put_in() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    upstream.reply(Reply::json(200, &json!({"choices": [{"message": {"tool_calls": [
        {"id": "", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"google": {"thought_signature": "sig"}}},
    ]}, "finish_reason": "stop"}]})));
    let body = json!({"model": "mock-1", "messages": [{"role": "developer", "content": "Be brief."}]});
    let answer = hub.chat(body).await.expect("an answer");
    assert_eq!(upstream.calls()[0].body["messages"][0]["role"], "system");
    assert!(answer["id"].as_str().expect("an id").starts_with("chatcmpl-"));
    assert_eq!((&answer["object"], &answer["created"]), (&json!("chat.completion"), &json!(1_770_379_200)));
    assert_eq!(answer["model"], "mock-1");
    let choice = &answer["choices"][0];
    assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("tool_calls")));
    assert_eq!(
        (&choice["message"]["role"], &choice["message"]["content"]),
        (&json!("assistant"), &Value::Null)
    );
    let call = &choice["message"]["tool_calls"][0];
    assert!(call["id"].as_str().expect("an id").starts_with("call_"));
    assert_eq!(call["type"], "function");
    assert_eq!(call["extra_content"]["google"]["thought_signature"], "sig");
    assert_eq!(answer["usage"]["estimated"], true);
    // … and the signature goes back as it came.
    let next = json!({"model": "mock-1", "messages": [choice["message"]]});
    hub.chat(next).await.expect("an answer");
    assert_eq!(upstream.calls()[1].body["messages"][0], choice["message"]);
}

/// Needs no mending.
const WELL_FORMED: &str = r#"{ "id":"c1", "object":"chat.completion", "created":1, "model":"m", "service":{"new": 1e2},
 "choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],
 "usage":{"prompt_tokens":1000,"completion_tokens":100 } , "end":true}"#;

#[tokio::test]
async fn an_answer_that_needs_no_mending_goes_out_as_it_came() {
    let (mut hub, upstream) = hub_of(ProviderKind::Openai).await;
    let reply = |text: &str| Reply::Whole(200, vec![], text.to_owned());
    upstream.reply(reply(WELL_FORMED));
    assert_eq!(hub.chat_text(hello("mock-1")).await.expect("an answer"), WELL_FORMED);
    upstream.reply(reply(WELL_FORMED));
    let priced = hub.chat_text(hello("priced")).await.expect("an answer");
    assert_eq!(priced, WELL_FORMED.replace("100 }", r#"100 ,"cost":0.003}"#));
    let with_cost = WELL_FORMED.replace("100 }", r#"100,"cost":7}"#);
    upstream.reply(reply(&with_cost));
    assert_eq!(hub.chat_text(hello("priced")).await.expect("an answer"), with_cost);
    upstream.reply(reply(&with_cost.replace('7', "null")));
    assert_eq!(hub.chat(hello("priced")).await.expect("an answer")["usage"]["cost"], 0.003);
    for cost_usd in [None, Some(0.003), Some(0.003), Some(0.003)] {
        let row = hub.rows.next_row().await.expect("a row");
        assert_eq!((row.usage.input_tokens, row.usage.output_tokens), (1000, 100));
        assert_eq!((row.usage.cost_usd, row.estimated), (cost_usd, false));
    }
}

#[tokio::test]
async fn one_fault_is_enough_for_an_answer_to_be_mended() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    let faults = [
        (r#""id":"c1", "#, "", "/id"),
        (r#""object":"chat.completion""#, r#""object":null"#, "/object"),
        (r#""created":1, "#, "", "/created"),
        (r#""model":"m""#, r#""model":null"#, "/model"),
        (r#""index":0,"#, "", "/choices/0/index"),
        (r#""role":"assistant","#, "", "/choices/0/message/role"),
        (r#""content":null,"#, "", "/choices/0/message/content"),
        (r#""id":"call_1""#, r#""id":"""#, "/choices/0/message/tool_calls/0/id"),
        (r#""type":"function","#, "", "/choices/0/message/tool_calls/0/type"),
        (r#":"tool_calls"}"#, r#":"stop"}"#, "/choices/0/finish_reason"),
        (r#":"tool_calls"}"#, r#":""}"#, "/choices/0/finish_reason"),
        (r#":"tool_calls"}"#, r#":null}"#, "/choices/0/finish_reason"),
        (r#"{"prompt_tokens":1000,"completion_tokens":100 }"#, "null", "/usage/completion_tokens"),
        (r#""prompt_tokens":1000,"completion_tokens":100 "#, "", "/usage/estimated"),
    ];
    for (right, wrong, place) in faults {
        let text = WELL_FORMED.replacen(right, wrong, 1);
        assert_ne!(text, WELL_FORMED, "{right}");
        upstream.reply(Reply::Whole(200, vec![], text.clone()));
        let told = hub.chat_text(hello("mock-1")).await.expect("an answer");
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let value = told.pointer(place).unwrap_or_else(|| panic!("{place} of {text}"));
        if place.ends_with("finish_reason") {
            assert_eq!(value, "tool_calls");
        } else if place.ends_with("content") {
            assert!(value.is_null());
        } else {
            assert!(!value.is_null() && value != "", "{place} of {told}");
        }
        upstream.reply(Reply::Whole(200, vec![], text));
        let completion = hub.chat(hello("mock-1")).await.expect("an answer");
        let of_random = ["/id", "/choices/0/message/tool_calls/0/id"];
        if !of_random.contains(&place) {
            assert_eq!(completion, told, "who asks within the hub gets the same");
        }
    }
    for (right, wrong) in
        [(r#""end":true"#, r#""end":true,"id":2"#), (r#""choices":["#, r#""choices":[],"n":["#)]
    {
        upstream.reply(Reply::Whole(200, vec![], WELL_FORMED.replacen(right, wrong, 1)));
        let told = hub.chat_text(hello("mock-1")).await;
        assert_eq!(told.is_ok(), wrong.contains("id"), "{told:?}");
    }
}

/// The status, code and `Retry-After` that a client gets for a reply.
async fn told(kind: ProviderKind, reply: Reply) -> (u16, &'static str, Option<u64>, String) {
    let (hub, upstream) = hub_of(kind).await;
    // What may pass is tried three times.
    (0..3).for_each(|_| upstream.reply(reply.clone()));
    let error = ApiError::from(hub.chat(hello("priced")).await.expect_err("an error"));
    (error.code.status(), error.code.as_str(), error.retry_after_seconds, error.message)
}

#[tokio::test]
async fn refusals_become_the_errors_that_clients_understand() {
    for (reply, status, code, retry_after) in [
        (Reply::error(400, "bad", "no such field"), 400, "invalid_request", None),
        (Reply::error(404, "model_not_found", "no model"), 404, "model_not_found", None),
        (Reply::error(413, "large", "too long"), 413, "payload_too_large", None),
        (Reply::error(422, "bad", "no"), 422, "invalid_value", None),
        (Reply::error(401, "invalid_api_key", "sk-…"), 502, "upstream_refused", None),
        (Reply::error(402, "no_credit", "pay"), 502, "upstream_refused", None),
        (Reply::error(403, "forbidden", "no"), 502, "upstream_refused", None),
        (Reply::error(429, "rate", "slow down"), 429, "rate_limited", Some(2)),
        (
            Reply::error(429, "rate", "slow down").with_header("retry-after", "17"),
            429,
            "rate_limited",
            Some(17),
        ),
        (
            Reply::error(429, "rate", "slow").with_header("retry-after-ms", "1200"),
            429,
            "rate_limited",
            Some(2),
        ),
        (Reply::error(429, "insufficient_quota", "pay"), 502, "upstream_refused", None),
        (Reply::error(500, "oops", "broke"), 502, "upstream_error", None),
        (Reply::error(503, "busy", "busy"), 502, "upstream_error", None),
        (Reply::error(504, "slow", "slow"), 504, "upstream_timeout", None),
        (Reply::Whole(404, vec![], "404 page not found".to_owned()), 502, "upstream_error", None),
        (
            Reply::Whole(302, vec![("location", "http://elsewhere/".to_owned())], String::new()),
            502,
            "upstream_error",
            None,
        ),
        (Reply::Whole(200, vec![], "<html>".to_owned()), 502, "upstream_error", None),
        (Reply::json(200, &json!({"choices": []})), 502, "upstream_error", None),
        (Reply::json(200, &json!({"error": {"code": 429, "message": "slow"}})), 429, "rate_limited", Some(2)),
        (Reply::json(200, &json!({"error": {"code": 402, "message": "pay"}})), 502, "upstream_refused", None),
        (Reply::json(200, &json!({"error": "odd"})), 502, "upstream_error", None),
        (Reply::json(500, &json!([{"error": {"message": "Google's way"}}])), 502, "upstream_error", None),
    ] {
        let shown = format!("{reply:?}");
        let (got_status, got_code, got_retry, _) = told(ProviderKind::Openai, reply).await;
        assert_eq!((got_status, got_code, got_retry), (status, code, retry_after), "{shown}");
    }
}

#[tokio::test]
async fn the_providers_words_come_through_and_the_hubs_key_does_not() {
    let (_, _, _, message) =
        told(ProviderKind::Openai, Reply::error(400, "bad", "`temperature` must be below 3")).await;
    assert_eq!(
        message,
        "the provider `mock` refused the request with status 400: `temperature` must be below 3"
    );
    for status in [400, 401, 403, 500] {
        let leaky = Reply::error(status, "bad", "Incorrect API key provided: sk-hub-secret");
        let (.., message) = told(ProviderKind::Openai, leaky).await;
        assert!(!message.contains("sk-hub"), "{message}");
    }
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_an_upstream_error() {
    let resetting = Resetting::start().await.expect("a port");
    for base_url in [refusing().await.expect("a port"), resetting.base_url.clone()] {
        let hub = hub(vec![provider("mock", ProviderKind::Openai, &base_url)]);
        let error = hub.chat(hello("priced")).await.expect_err("an error");
        assert!(matches!(&error, ModelError::Failed { .. }), "{error:?}");
        assert!(error.is_retryable());
        assert_eq!(ApiError::from(error).code.status(), 502);
    }
}
