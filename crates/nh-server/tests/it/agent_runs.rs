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
    let all = [
        "calculate",
        "current_time",
        "http_fetch",
        "memory_search",
        "memory_store",
        "storage_list",
        "storage_read",
        "storage_write",
    ];
    assert_eq!(names, all, "web_search has no provider here");

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

async fn agent(app: &TestApp, agent: Value) {
    app.post("/v1/agents", agent).send().await.ok(201);
}

async fn run_of(app: &TestApp, target: &str) -> Value {
    let body = json!({"target": target, "type": "agent", "input": {"goal": "Add."}});
    app.post("/v1/run", body).send().await.ok(200)
}

#[tokio::test]
async fn a_provider_that_knows_no_streams_is_understood() {
    let ask = calls(&[call("c1", "calculate", "{\"expression\": \"1 + 1\"}")]);
    let (app, upstream) = app_and_model([ask.always_whole(), says("Two.").always_whole()]).await;
    let run = run(&app).await;
    assert_eq!((&run["result"], &run["usage"]["inputTokens"]), (&json!("Two."), &json!(20)), "{run}");
    assert_eq!(sent(&upstream, 0)["stream"], json!(true), "it was asked for one");
}

fn person() -> Value {
    json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
           "required": ["name", "age"], "additionalProperties": false})
}

fn structured() -> Value {
    json!({"id": "s", "name": "S", "model_id": MODEL, "system_prompt": "Be brief.", "output_schema": person(), "tools": []})
}

#[tokio::test]
async fn a_result_under_an_output_schema_is_an_object_that_fits() {
    let fenced = "```json\n{\"name\": \"Ada\", \"age\": 36}\n```";
    let (app, upstream) =
        app_and_model([says("Ada is 36."), says("{\"name\": \"Ada\", \"age\": \"36\"}"), says(fenced)]).await;
    agent(&app, structured()).await;
    let run = run_of(&app, "s").await;
    assert_eq!(
        (&run["state"], &run["result"]),
        (&json!("SUCCESS"), &json!({"name": "Ada", "age": 36})),
        "{run}"
    );
    let first = sent(&upstream, 0);
    assert_eq!(first["response_format"]["json_schema"]["schema"], person());
    let told = first["messages"][0]["content"].as_str().unwrap();
    assert!(told.starts_with("Be brief.\n\nWhen you give your final answer"), "{told}");
    let complaints: Vec<String> = (1..3)
        .map(|turn| {
            let messages = sent(&upstream, turn)["messages"].as_array().unwrap().clone();
            let last = messages.last().unwrap();
            assert_eq!(last["role"], "user");
            last["content"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(complaints[0].contains("it is not JSON"), "{complaints:?}");
    assert!(complaints[1].contains("`answer.age`"), "{complaints:?}");
    let view = app.get("/v1/agents/s").send().await.ok(200);
    assert_eq!(view["output_schema"], person());
}

#[tokio::test]
async fn an_answer_that_never_fits_fails_the_run_and_says_why() {
    let (app, upstream) =
        app_and_model([says("no"), says("still no"), says("{\"name\": \"Ada\"}"), says("never asked")]).await;
    agent(&app, structured()).await;
    let run = run_of(&app, "s").await;
    assert_eq!((&run["state"], &run["error"]["code"]), (&json!("FAILED"), &json!("output_invalid")), "{run}");
    assert!(run["error"]["message"].as_str().unwrap().contains("`answer.age`"), "{run}");
    assert_eq!(run["partialResult"], json!("{\"name\": \"Ada\"}"));
    assert_eq!(upstream.calls().len(), 3);

    let with_tools =
        json!({"id": "t", "name": "T", "model_id": MODEL, "output_schema": person(), "max_steps": 1});
    upstream.reply(says("no"));
    agent(&app, with_tools).await;
    let run = run_of(&app, "t").await;
    assert_eq!(run["error"]["code"], json!("output_invalid"), "no turn is left for a repair: {run}");
    assert!(sent(&upstream, 3).get("response_format").is_none(), "the tools win");
}

#[tokio::test]
async fn an_output_schema_must_be_one() {
    let app = TestApp::new().await;
    for (schema, word) in [
        (json!({"type": "array"}), "`type` is `object`"),
        (json!("object"), "`type` is `object`"),
        (json!({"type": "object", "properties": {"a": {"type": "text"}}}), "is no JSON Schema"),
        (json!({"type": "object", "title": "x".repeat(70_000)}), "at most 65536"),
        (json!({"type": "object", "$ref": "https://example.com/s.json"}), "is no JSON Schema"),
    ] {
        let reply = app.post("/v1/agents", json!({"name": "n", "output_schema": schema})).send().await;
        let text = reply.json().to_string();
        assert_eq!(reply.error(422).1.as_deref(), Some("output_schema"), "{text}");
        assert!(text.contains(word), "{text}");
    }
    let made = json!({"id": "o", "name": "n", "output_schema": person()});
    app.post("/v1/agents", made).send().await.ok(201);
    let patched = app
        .call(http::Method::PATCH, "/v1/agents/o")
        .json(json!({"output_schema": null}))
        .send()
        .await
        .ok(200);
    assert_eq!(patched["output_schema"], json!(null));
}

#[tokio::test]
async fn an_agent_that_goes_round_in_circles_is_told_and_then_stopped() {
    let ask = || calls(&[call("c", "calculate", "{\"expression\": \"1 + 1\"}")]);
    let (app, upstream) = app_and_model((0..3).map(|_| ask()).chain([ask(), says("Two.")])).await;
    agent(&app, json!({"id": "c", "name": "C", "model_id": MODEL})).await;
    let run = run_of(&app, "c").await;
    let codes = |run: &Value| -> Vec<Value> {
        run["events"].as_array().unwrap().iter().map(|event| event["error"]["code"].clone()).collect()
    };
    assert_eq!(codes(&run), [json!(null), json!(null), json!(null), json!("repeated_call")], "{run}");
    assert_eq!(run["result"], json!("Two."));
    let messages = sent(&upstream, 4)["messages"].as_array().unwrap().clone();
    assert!(messages.last().unwrap()["content"].as_str().unwrap().contains("3 turns in a row"));

    for _ in 0..9 {
        upstream.reply(ask());
    }
    let run = run_of(&app, "c").await;
    assert_eq!((&run["state"], &run["error"]["code"]), (&json!("FAILED"), &json!("repeated_call")), "{run}");
    assert_eq!(codes(&run).len(), 6, "the seventh was not made");
}

#[tokio::test]
async fn what_changes_is_no_circle() {
    let ask =
        |number: usize| calls(&[call("c", "calculate", &format!("{{\"expression\": \"1 + {number}\"}}"))]);
    let (app, _upstream) = app_and_model((0..9).map(ask).chain([says("Done.")])).await;
    agent(&app, json!({"id": "c", "name": "C", "model_id": MODEL})).await;
    let run = run_of(&app, "c").await;
    assert_eq!(run["state"], json!("SUCCESS"), "{run}");
}

#[tokio::test]
async fn an_empty_answer_is_mended_and_a_refusal_is_an_end() {
    let nothing = message(json!({"role": "assistant", "content": null}), "stop");
    let (app, upstream) = app_and_model([nothing, says("{\"name\": \"Ada\", \"age\": 36}")]).await;
    agent(&app, structured()).await;
    assert_eq!(run_of(&app, "s").await["result"], json!({"name": "Ada", "age": 36}));
    let told = sent(&upstream, 1)["messages"].as_array().unwrap().clone();
    let roles: Vec<&str> = told.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "user"], "a message without a word is refused by providers");

    upstream.reply(message(json!({"role": "assistant", "content": null, "refusal": "I will not."}), "stop"));
    let run = run_of(&app, "s").await;
    assert_eq!((&run["state"], &run["error"]["code"]), (&json!("FAILED"), &json!("model_refused")), "{run}");
    assert_eq!(upstream.calls().len(), 3);
}
