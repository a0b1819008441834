//! Agent runs against a scripted model: what it is shown, and what becomes of
//! what it asks for.

use nh_testkit::upstream::{Reply, Upstream};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::upstream::{MODEL, app_on};

pub(crate) async fn app_and_model(replies: impl IntoIterator<Item = Reply>) -> (TestApp, Upstream) {
    let upstream = Upstream::start().await.expect("a port");
    for reply in replies {
        upstream.reply(reply);
    }
    let app = app_on(upstream.base_url()).await;
    let agent =
        json!({"id": "a", "name": "A", "model_id": MODEL, "system_prompt": "Be brief.", "max_steps": 3});
    app.post("/v1/agents", agent).send().await.ok(201);
    (app, upstream)
}

fn message(message: Value, finish_reason: &str) -> Reply {
    Reply::json(
        200,
        &json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }),
    )
}

pub(crate) fn says(text: &str) -> Reply {
    message(json!({"role": "assistant", "content": text}), "stop")
}

pub(crate) fn call(id: &str, tool: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": tool, "arguments": arguments}})
}

pub(crate) fn calls(calls: &[Value]) -> Reply {
    message(json!({"role": "assistant", "content": null, "tool_calls": calls}), "tool_calls")
}

pub(crate) async fn run(app: &TestApp) -> Value {
    let body = json!({"target": "a", "type": "agent", "input": {"goal": "Add."}});
    app.post("/v1/run", body).send().await.ok(200)
}

pub(crate) fn sent(upstream: &Upstream, call: usize) -> Value {
    upstream.calls()[call].body.clone()
}

#[tokio::test]
async fn what_the_model_gets_wrong_goes_back_to_it() {
    let (app, upstream) = app_and_model([
        calls(&[
            call("c1", "adding_machine", "{}"),
            call("c2", "calculate", "{\"expression\": 1}"),
            call("c3", "calculate", "{oops"),
            call("c4", "calculate", "{\"expression\": \"1 + 1\"}"),
        ]),
        says("Two."),
    ])
    .await;
    let run = run(&app).await;
    assert_eq!((&run["state"], &run["result"]), (&json!("SUCCESS"), &json!("Two.")), "{run}");
    assert_eq!(run["usage"]["inputTokens"], json!(20));

    let errors: Vec<_> =
        run["events"].as_array().unwrap().iter().map(|event| &event["error"]["code"]).collect();
    assert_eq!(
        errors,
        [&json!("unknown_tool"), &json!("invalid_arguments"), &json!("invalid_arguments"), &Value::Null]
    );
    let first = sent(&upstream, 0);
    assert_eq!(
        first["messages"],
        json!([
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Add."},
        ])
    );
    let names: Vec<_> = first["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["function"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["calculate", "current_time", "http_fetch"], "web_search has no provider here");

    let second = sent(&upstream, 1);
    let outputs: Vec<_> = second["messages"].as_array().unwrap()[3..]
        .iter()
        .map(|message| {
            assert_eq!(message["role"], "tool");
            (message["tool_call_id"].as_str().unwrap(), message["content"].as_str().unwrap())
        })
        .collect();
    assert_eq!(outputs[0].0, "c1");
    assert!(
        outputs[0].1.starts_with("Error (unknown_tool): There is no tool `adding_machine`."),
        "{}",
        outputs[0].1
    );
    assert!(outputs[1].1.contains("/expression"), "{}", outputs[1].1);
    assert!(outputs[2].1.starts_with("Error (invalid_arguments)"), "{}", outputs[2].1);
    assert_eq!(outputs[3], ("c4", "1 + 1 = 2"));
}

#[tokio::test]
async fn a_models_message_goes_back_as_it_came() {
    let asks = json!({"role": "assistant", "content": null, "tool_calls": [{
        "id": "c1", "type": "function",
        "function": {"name": "calculate", "arguments": "{\"expression\":\"1 + 1\"}"},
        "extra_content": {"google": {"thought_signature": "c2lnbmVk"}},
    }]});
    let (app, upstream) = app_and_model([message(asks.clone(), "tool_calls"), says("Two.")]).await;
    assert_eq!(run(&app).await["state"], json!("SUCCESS"));
    assert_eq!(sent(&upstream, 1)["messages"][2], asks);
}

#[tokio::test]
async fn an_agent_that_never_answers_fails_at_its_max_steps() {
    let ask = || calls(&[call("c", "calculate", "{\"expression\": \"1 + 1\"}")]);
    let (app, upstream) = app_and_model([ask(), ask(), ask(), ask()]).await;
    let run = run(&app).await;
    assert_eq!(run["error"]["code"], json!("max_steps_exceeded"), "{run}");
    assert_eq!(run["events"].as_array().map(Vec::len), Some(3));
    assert_eq!(upstream.calls().len(), 3);
}

#[tokio::test]
async fn calls_beyond_the_bound_of_a_turn_are_refused_and_told() {
    let many: Vec<Value> =
        (0..40).map(|index| call(&format!("c{index}"), "calculate", "{\"expression\": \"1 + 1\"}")).collect();
    let (app, _upstream) = app_and_model([calls(&many), says("Done.")]).await;
    let run = run(&app).await;
    let events = run["events"].as_array().unwrap();
    let refused = events.iter().filter(|event| event["error"]["code"] == "too_many_calls").count();
    assert_eq!((events.len(), refused), (40, 8));
    assert_eq!(run["state"], json!("SUCCESS"));
}

#[tokio::test]
async fn a_busy_provider_is_asked_again_and_a_refusing_one_is_not() {
    let busy = Reply::error(429, "rate_limited", "slow down").with_header("retry-after", "0");
    let (app, upstream) = app_and_model([busy, says("Here.")]).await;
    assert_eq!(run(&app).await["result"], json!("Here."));
    assert_eq!(upstream.calls().len(), 2);

    let (app, upstream) = app_and_model([Reply::error(401, "invalid_api_key", "no such key")]).await;
    let run = run(&app).await;
    assert_eq!(
        (&run["state"], &run["error"]["code"]),
        (&json!("FAILED"), &json!("upstream_refused")),
        "{run}"
    );
    assert_eq!(upstream.calls().len(), 1);
}

#[tokio::test]
async fn tools_are_offered_as_far_as_the_agent_names_them() {
    let (app, upstream) = app_and_model([says("Nothing to do.")]).await;
    app.post("/v1/agents", json!({"id": "bare", "name": "Bare", "model_id": MODEL, "tools": []}))
        .send()
        .await
        .ok(201);
    let body = json!({"target": "bare", "type": "agent", "input": {"messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ]}});
    app.post("/v1/run", body).send().await.ok(200);
    let sent = sent(&upstream, 0);
    assert!(sent.get("tools").is_none(), "{sent}");
    assert_eq!(sent["messages"], json!([{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]));
}
