//! Whatever is asked with whatever tools: a valid reply, and arguments that fit
//! the tool's schema.

use nh_models::offline::MODEL_ID;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::hub;

fn words() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "what",
        "is",
        "the",
        "time",
        "in",
        "Tokyo",
        "and",
        "then",
        "calculate",
        "17",
        "*",
        "23",
        "15%",
        "of",
        "(",
        ")",
        "fetch",
        "http://a.b/c",
        "it",
        "result",
        "send",
        "to",
        "x@y.zz",
        "2026-02-06",
        "\"quoted text\"",
        "red",
        "list",
        ",",
        ".",
        "?",
        "\n",
        "zwölf",
        "日本",
        "-",
        "3.5",
        "limit",
        "add",
        "5",
        "from",
        "city",
        "Paris",
        "sum of",
        "squared",
        "“",
        "`",
    ];
    prop_oneof![
        4 => prop::collection::vec(prop::sample::select(WORDS), 0..24).prop_map(|words| words.join(" ")),
        1 => "\\PC{0,80}",
    ]
}

fn property() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "string", "format": "uri"})),
        Just(json!({"type": "string", "format": "date"})),
        Just(json!({"type": "string", "format": "email"})),
        Just(json!({"type": "string", "minLength": 3, "maxLength": 6})),
        Just(json!({"type": "string", "pattern": "^[A-Z][a-z]+$"})),
        Just(json!({"type": "string", "enum": ["red", "green"]})),
        Just(json!({"type": ["string", "null"], "description": "IANA time zone"})),
        Just(json!({"type": "integer", "minimum": 2, "maximum": 10})),
        Just(json!({"type": "number", "multipleOf": 0.5})),
        Just(json!({"type": "boolean"})),
        Just(json!({"const": 7})),
        Just(json!({"anyOf": [{"type": "null"}, {"type": "integer"}]})),
        Just(json!({"not": {}})),
        Just(json!(true)),
        Just(json!({})),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| json!({"type": "array", "items": items, "minItems": 1})),
            inner
                .prop_map(|one| json!({"type": "object", "properties": {"part": one}, "required": ["part"]})),
        ]
    })
}

fn tool() -> impl Strategy<Value = Value> {
    const NAMES: &[&str] =
        &["calculate", "current_time", "http_fetch", "web_search", "sendMail", "list-colors", "x"];
    const PROPERTIES: &[&str] =
        &["url", "expression", "timezone", "query", "to", "color", "limit", "city", "flag", "a"];
    let properties =
        prop::collection::btree_map(prop::sample::select(PROPERTIES), (property(), any::<bool>()), 0..4);
    (prop::sample::select(NAMES), words(), properties, any::<bool>()).prop_map(|(name, description, properties, closed)| {
        let required: Vec<_> = properties.iter().filter(|(_, (_, required))| *required).map(|(name, _)| *name).collect();
        let schemas: serde_json::Map<_, _> =
            properties.iter().map(|(name, (schema, _))| ((*name).to_owned(), schema.clone())).collect();
        json!({"type": "function", "function": {"name": name, "description": description, "parameters":
            {"type": "object", "properties": schemas, "required": required, "additionalProperties": !closed}}})
    })
}

fn check(answer: &Value, tools: &[Value]) -> Vec<Value> {
    let choice = &answer["choices"][0];
    let message = &choice["message"];
    assert_eq!(message["role"], "assistant");
    let Some(calls) = message["tool_calls"].as_array() else {
        assert_eq!(choice["finish_reason"], "stop");
        assert!(!message["content"].as_str().expect("a text").is_empty());
        return Vec::new();
    };
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert!((1..=16).contains(&calls.len()));
    for call in calls {
        let name = &call["function"]["name"];
        let arguments: Value =
            serde_json::from_str(call["function"]["arguments"].as_str().expect("text")).expect("JSON");
        let fits =
            tools.iter().map(|tool| &tool["function"]).filter(|tool| tool["name"] == *name).any(|tool| {
                jsonschema::validator_for(&tool["parameters"]).expect("a schema").is_valid(&arguments)
            });
        assert!(fits, "{name} {arguments}");
    }
    calls.clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: nh_testkit::cases(256), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replies_are_valid_and_come_to_an_end(
        goal in words(), tools in prop::collection::vec(tool(), 0..4), output in words(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let hub = hub(Vec::new());
            let mut messages = vec![json!({"role": "user", "content": goal})];
            for turn in 0.. {
                assert!(turn < 40, "no end");
                let body = json!({"model": MODEL_ID, "messages": messages, "tools": tools});
                let answer = hub.chat(body.clone()).await.expect("an answer");
                let again = hub.chat(body).await.expect("an answer");
                assert_eq!(answer["choices"][0]["message"]["content"], again["choices"][0]["message"]["content"]);
                let calls = check(&answer, &tools);
                if calls.is_empty() {
                    break;
                }
                messages.push(answer["choices"][0]["message"].clone());
                for call in calls {
                    messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": output}));
                }
            }
        });
    }
}
