//! The planner answers on the threads that answer everybody: no request may
//! keep one for long. The bound is generous, for a busy machine and a debug
//! build; what these requests once took is minutes.

use std::time::{Duration, Instant};

use nh_models::ModelError;
use nh_models::offline::MODEL_ID;
use serde_json::{Value, json};

use crate::harness::hub;

const AT_MOST: Duration = Duration::from_secs(3);

/// The answer, in time.
async fn asked(what: &str, goal: &str, tools: Value, rest: Vec<Value>) {
    let messages: Vec<Value> =
        std::iter::once(json!({"role": "user", "content": goal})).chain(rest).collect();
    let began = Instant::now();
    let answer = hub(Vec::new()).chat(json!({"model": MODEL_ID, "messages": messages, "tools": tools})).await;
    let took = began.elapsed();
    assert!(answer.is_ok(), "{what}: {answer:?}");
    assert!(took < AT_MOST, "{what} took {took:?}");
}

fn tool(name: &str, parameters: Value) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "Sends a note", "parameters": parameters}})
}

fn takes(name: &str, property: &str) -> Value {
    tool(
        name,
        json!({"type": "object", "properties": {property: {"type": "string"}}, "required": [property]}),
    )
}

#[tokio::test]
async fn long_goals() {
    let tools = json!([
        takes("calculate", "expression"),
        takes("current_time", "timezone"),
        takes("http_fetch", "url"),
        takes("send_note", "text"),
    ]);
    for (piece, times) in [
        ("a then ", 1_200),
        ("1+", 4_000),
        (", and ", 1_300),
        ("send_note it and ", 500),
        ("Tokyo and ", 800),
        ("send_note Tokyo, ", 500),
        ("http://a.b/ ", 660),
        ("a.com ", 1_300),
        ("what is 1+1 and ", 500),
        ("(", 8_000),
        ("\" “", 2_000),
        ("please ", 1_100),
        ("it. ", 2_000),
        ("sum of 1 2 ", 700),
        ("1! ", 2_600),
        ("1,", 4_000),
        ("e.g. ", 1_600),
        ("in a ", 1_600),
        ("é", 8_000),
    ] {
        asked(piece, &piece.repeat(times), tools.clone(), Vec::new()).await;
    }
}

#[tokio::test]
async fn many_calls() {
    let calls: Vec<Value> = (0..20_000)
        .map(|at| json!({"id": format!("call_{at}"), "function": {"name": "send_note", "arguments": "{}"}}))
        .collect();
    let answers = (0..20_000).map(|_| json!({"role": "tool", "tool_call_id": "another", "content": "x"}));
    let rest = std::iter::once(json!({"role": "assistant", "tool_calls": calls})).chain(answers).collect();
    asked("many calls", "send_note hello", json!([takes("send_note", "text")]), rest).await;
}

#[tokio::test]
async fn large_schemas() {
    let properties: serde_json::Map<String, Value> =
        (0..900).map(|at| (format!("p{at}"), json!({"type": "boolean"}))).collect();
    let required: Vec<&String> = properties.keys().collect();
    let schema = json!({"type": "object", "properties": properties, "required": required});
    asked("many properties", "send_note hello", json!([tool("send_note", schema)]), Vec::new()).await;
}

#[tokio::test]
async fn schemas_that_take_too_long_are_refused() {
    let doubling = |steps: usize| {
        let mut definitions = serde_json::Map::from_iter([("d0".to_owned(), json!({"minProperties": 9}))]);
        for at in 1..=steps {
            let before = json!({"$ref": format!("#/$defs/d{}", at - 1)});
            definitions.insert(format!("d{at}"), json!({"anyOf": [before, before]}));
        }
        json!({
            "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"],
            "$defs": definitions, "$ref": format!("#/$defs/d{steps}"),
        })
    };
    for schema in [doubling(40), json!({"type": "object", "description": "x".repeat(40_000)})] {
        let body = json!({
            "model": MODEL_ID, "tools": [tool("send_note", schema)],
            "messages": [{"role": "user", "content": "send_note hello"}],
        });
        let refused = hub(Vec::new()).chat(body).await.expect_err("too much");
        assert!(
            matches!(&refused, ModelError::Invalid { param, .. } if param == "tools[0].function.parameters")
        );
    }
    asked("few references", "send_note hello", json!([tool("send_note", doubling(11))]), Vec::new()).await;
    for cycle in [json!({"$ref": "#"}), json!({"not": {"$ref": "#"}}), json!({"$ref": "http://127.0.0.1:9/"})]
    {
        asked("a cycle", "send_note hello", json!([tool("send_note", cycle)]), Vec::new()).await;
    }
}

#[tokio::test]
async fn patterns_that_backtrack() {
    let goal = format!("send_note on {}", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ".repeat(220));
    for pattern in
        ["^(([a-z])+.)+[A-Z](?=zzz)$", "^(a|a)*(?=zzz)$", "(a{1,900}){1,900}", "(\\w{0,99}){0,99}Z"]
    {
        let properties: serde_json::Map<String, Value> =
            (0..4).map(|at| (format!("p{at}"), json!({"type": "string", "pattern": pattern}))).collect();
        let required: Vec<&String> = properties.keys().collect();
        let schema = json!({"type": "object", "properties": properties, "required": required});
        asked(pattern, &goal, json!([tool("send_note", schema)]), Vec::new()).await;
    }
}
