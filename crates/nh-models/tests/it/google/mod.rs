//! Gemini's own protocol, behind OpenAI's.

mod faults;

use nh_models::ProviderKind;
use nh_testkit::upstream::{Reply, Upstream};
use serde_json::{Value, json};

use crate::harness::{Hub, chunks, frames, hello, hello_streamed, hub_of};

/// A hub whose provider lists what Gemini does.
async fn gemini() -> (Hub, Upstream) {
    let (hub, upstream) = hub_of(ProviderKind::Google).await;
    let model = |id: &str, methods: &[&str]| {
        json!({"name": id, "displayName": id.to_uppercase(), "inputTokenLimit": 1_048_576,
            "supportedGenerationMethods": methods})
    };
    upstream.list(Reply::json(
        200,
        &json!({"models": [
            model("models/gemini-2.5-flash", &["generateContent", "countTokens"]),
            model("models/gemini-3-flash", &["generateContent"]),
            model("models/gemini-embedding-001", &["embedContent"]),
            model("models/veo-3", &["predictLongRunning"]),
            model("tunedModels/mine", &["generateContent"]),
            json!({"displayName": "nameless"}),
        ]}),
    ));
    (hub, upstream)
}

fn says(parts: Value, finish_reason: Value, usage: Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish_reason, "index": 0}],
        "usageMetadata": usage, "modelVersion": "gemini-2.5-flash-001", "responseId": "r1"})
}

fn everything() -> Value {
    json!({
        "model": "google/gemini-2.5-flash",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "In French."}]},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://a.b/c.jpg"}},
                {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
                {"type": "text", "text": ""},
            ]},
            {"role": "user", "content": "Look closely.", "name": "Ann"},
            {"role": "assistant", "content": "I shall look.", "extra_content": {"google": {"thought_signature": "s0"}},
             "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"at\": \"it\"}"},
                 "extra_content": {"google": {"thought_signature": "s1"}}},
                {"id": "c2", "type": "function", "function": {"name": "count", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "{\"seen\": \"a cat\"}"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "1 "}, {"type": "text", "text": "cat"}]},
            {"role": "user", "content": "And?"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "look", "description": "Looks.", "strict": true,
                "parameters": {"type": "object", "properties": {"at": {"type": ["string", "null"]}}, "additionalProperties": false}}},
            {"type": "function", "function": {"name": "count"}},
            {"googleSearch": {}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "max_tokens": 100, "max_completion_tokens": 200, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "n": 1,
        "seed": 7, "presence_penalty": 0.1, "frequency_penalty": 0.2, "stop": "END",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        "reasoning_effort": "low", "modalities": ["text"], "cached_content": "cachedContents/1",
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "labels": {"team": "a"}, "user": "u", "some_new_field": 1, "stream_options": null,
    })
}

#[tokio::test]
async fn a_chat_goes_there_and_back_with_all_that_it_has() {
    let (mut hub, upstream) = gemini().await;
    let parts = json!([
        {"text": "Let me see.", "thought": true},
        {"text": "A cat."},
        {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"functionCall": {"id": "g1", "name": "look", "args": {"at": "it"}}, "thoughtSignature": "s2"},
        {"functionCall": {"name": "count"}},
    ]);
    let used = json!({"promptTokenCount": 100, "toolUsePromptTokenCount": 20, "cachedContentTokenCount": 60,
        "candidatesTokenCount": 30, "thoughtsTokenCount": 50, "totalTokenCount": 200});
    upstream.reply(Reply::json(200, &says(parts, json!("STOP"), used)));
    let answer = hub.chat(everything()).await.expect("an answer");

    let call = &upstream.calls()[0];
    assert_eq!(call.path, "/v1/models/gemini-2.5-flash:generateContent");
    assert_eq!(call.headers["x-goog-api-key"], "sk-hub-secret");
    assert!(!call.headers.contains_key("authorization"));
    assert_eq!(call.body, everything_as_gemini_has_it());

    assert_eq!((&answer["id"], &answer["model"]), (&json!("r1"), &json!("gemini-2.5-flash-001")));
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let made_id = &choice["message"]["tool_calls"][1]["id"];
    assert!(made_id.as_str().expect("an id").starts_with("call_"));
    assert_eq!(
        choice["message"],
        json!({"role": "assistant", "content": "A cat.\n```python\nprint(1)\n```\n\n```\n1\n```\n",
        "reasoning_content": "Let me see.",
        "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
        "tool_calls": [
            {"id": "g1", "type": "function", "function": {"name": "look", "arguments": "{\"at\":\"it\"}"},
             "extra_content": {"google": {"thought_signature": "s2"}}},
            {"id": made_id, "type": "function", "function": {"name": "count", "arguments": "{}"}},
        ]})
    );
    assert_eq!(answer["usage"]["total_tokens"], 200);
    let row = hub.rows.next_row().await.expect("a row");
    assert!(!row.estimated);
    let used = row.usage;
    assert_eq!((used.input_tokens, used.output_tokens), (120, 80));
    assert_eq!((used.cached_tokens, used.reasoning_tokens), (60, 50));
}

fn everything_as_gemini_has_it() -> Value {
    json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "In French."}]},
        "contents": [
            {"role": "user", "parts": [
                {"text": "What is this?"},
                {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
                {"fileData": {"fileUri": "https://a.b/c.jpg"}},
                {"inlineData": {"mimeType": "audio/wav", "data": "UklG"}},
                {"inlineData": {"mimeType": "application/pdf", "data": "JVBE"}},
                {"text": "Look closely."},
            ]},
            {"role": "model", "parts": [
                {"text": "I shall look.", "thoughtSignature": "s0"},
                {"functionCall": {"id": "c1", "name": "look", "args": {"at": "it"}}, "thoughtSignature": "s1"},
                {"functionCall": {"id": "c2", "name": "count", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "c1", "name": "look", "response": {"seen": "a cat"}}},
                {"functionResponse": {"id": "c2", "name": "count", "response": {"result": "1 cat"}}},
                {"text": "And?"},
            ]},
        ],
        "tools": [
            {"googleSearch": {}},
            {"functionDeclarations": [
                {"name": "look", "description": "Looks.", "parametersJsonSchema":
                    {"type": "object", "properties": {"at": {"type": ["string", "null"]}}, "additionalProperties": false}},
                {"name": "count"},
            ]},
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
        "generationConfig": {
            "maxOutputTokens": 200, "temperature": 0.5, "topP": 0.9, "topK": 40, "candidateCount": 1, "seed": 7,
            "presencePenalty": 0.1, "frequencyPenalty": 0.2, "stopSequences": ["END"], "responseModalities": ["TEXT"],
            "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
            "thinkingConfig": {"thinkingBudget": 1_024, "includeThoughts": true},
        },
        "cachedContent": "cachedContents/1",
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "labels": {"team": "a"},
    })
}

#[tokio::test]
async fn what_a_call_costs_is_exact_with_its_thoughts() {
    let (mut hub, upstream) = gemini().await;
    let used = json!({"promptTokenCount": 1_000, "candidatesTokenCount": 100, "thoughtsTokenCount": 400});
    let (half, whole) = (
        says(json!([{"text": "H"}]), Value::Null, json!({"promptTokenCount": 1_000})),
        says(json!([{"text": "i"}]), json!("STOP"), used),
    );
    upstream.reply(Reply::json(200, &whole));
    upstream.reply(Reply::chunks(&[half, whole]));
    let answer = hub.chat(hello("google/priced")).await.expect("an answer");
    let mut body = hello_streamed("priced");
    body["stream_options"] = json!({"include_usage": true});
    let last = chunks(&hub.stream(body).await.expect("a stream")).pop().expect("a chunk");
    for usage in [&answer["usage"], &last["usage"]] {
        // 1000 at 2 dollars and 500 at 10.
        assert_eq!(usage["cost"], json!(0.007));
        assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 400);
        let row = hub.rows.next_row().await.expect("a row");
        assert_eq!((row.usage.cost_usd, row.estimated), (Some(0.007), false));
    }
}

#[tokio::test]
async fn a_streamed_turn_is_continued_with_what_gemini_signed() {
    let (hub, upstream) = gemini().await;
    let event = |parts: Value, reason: Value| says(parts, reason, json!({"promptTokenCount": 9}));
    upstream.reply(Reply::chunks(&[
        event(json!([{"text": "Let me ", "thought": true}]), Value::Null),
        event(json!([{"text": "think.", "thought": true}]), Value::Null),
        event(json!([{"text": "I look."}]), Value::Null),
        event(
            json!([{"functionCall": {"name": "look", "args": {"at": 1}}, "thoughtSignature": "s1"},
            {"functionCall": {"name": "look", "args": {"at": 2}}}]),
            Value::Null,
        ),
        event(json!([{"functionCall": {"id": "g3", "name": "count", "args": {}}}]), Value::Null),
        event(json!([{"text": "", "thoughtSignature": "s2"}]), json!("STOP")),
    ]));
    let stream = hub.stream(hello_streamed("google/gemini-3-flash")).await.expect("a stream");
    let call = &upstream.calls()[0];
    assert_eq!(call.path, "/v1/models/gemini-3-flash:streamGenerateContent");
    assert_eq!(call.body, json!({"contents": [{"role": "user", "parts": [{"text": "Hello!"}]}]}));

    assert_eq!(frames(&stream).last().map(String::as_str), Some("[DONE]"));
    let chunks = chunks(&stream);
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let text = |field: &str| deltas.iter().filter_map(|delta| delta[field].as_str()).collect::<String>();
    assert_eq!(
        (text("reasoning_content"), text("content")),
        ("Let me think.".to_owned(), "I look.".to_owned())
    );
    let calls: Vec<Value> = deltas
        .iter()
        .flat_map(|delta| delta["tool_calls"].as_array().into_iter().flatten())
        .cloned()
        .collect();
    let told: Vec<_> =
        calls.iter().map(|call| (call["index"].as_u64(), call["function"]["arguments"].as_str())).collect();
    assert_eq!(told, [(Some(0), Some("{\"at\":1}")), (Some(1), Some("{\"at\":2}")), (Some(2), Some("{}"))]);
    assert!(calls.iter().all(|call| call["id"].is_string()));
    let last = chunks.last().expect("a chunk");
    assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
    assert!(chunks.iter().all(|chunk| chunk["id"] == "r1" && chunk.get("usage").is_none()));

    let said = json!({"role": "assistant", "content": "I look.", "tool_calls": calls,
        "extra_content": last["choices"][0]["delta"]["extra_content"]});
    let result = json!({"role": "tool", "tool_call_id": calls[2]["id"], "content": "[1, 2]"});
    upstream.reply(Reply::json(200, &event(json!([{"text": "Two."}]), json!("STOP"))));
    let messages = json!([{"role": "user", "content": "Hello!"}, said, result]);
    hub.chat(json!({"model": "gemini-3-flash", "messages": messages})).await.expect("an answer");
    let contents = &upstream.calls()[1].body["contents"];
    assert_eq!(contents[1]["parts"][0], json!({"text": "I look.", "thoughtSignature": "s2"}));
    assert_eq!(contents[1]["parts"][1]["thoughtSignature"], "s1");
    assert!(contents[1]["parts"][2].get("thoughtSignature").is_none());
    assert_eq!(
        contents[2]["parts"],
        json!([{"functionResponse": {"id": "g3", "name": "count", "response": {"result": "[1, 2]"}}}])
    );
}

#[tokio::test]
async fn calls_of_another_providers_model_are_let_through_by_gemini_3() {
    let (hub, upstream) = gemini().await;
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let messages = json!([
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": null, "tool_calls": [call("a"), call("b")]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
        {"role": "tool", "tool_call_id": "b", "content": "no", "is_error": true},
    ]);
    for (model, signature) in
        [("gemini-3-flash", json!("skip_thought_signature_validator")), ("gemini-2.5-flash", Value::Null)]
    {
        upstream.reply(Reply::json(200, &says(json!([{"text": "Hi"}]), json!("STOP"), json!({}))));
        let answer = hub.chat(json!({"model": model, "messages": messages})).await.expect("an answer");
        assert_eq!(answer["usage"]["estimated"], true);
        let calls = upstream.calls();
        let contents = &calls.last().expect("a call").body["contents"];
        assert_eq!(contents[1]["parts"][0]["thoughtSignature"], signature);
        assert_eq!(contents[1]["parts"][1]["thoughtSignature"], Value::Null);
        assert_eq!(
            contents[2]["parts"],
            json!([
                {"functionResponse": {"id": "a", "name": "f", "response": {"result": ""}}},
                {"inlineData": {"mimeType": "image/png", "data": "AA"}},
                {"functionResponse": {"id": "b", "name": "f", "response": {"error": "no"}}},
            ])
        );
    }
}

#[tokio::test]
async fn several_answers_are_told_apart() {
    let (hub, upstream) = gemini().await;
    let call = json!({"functionCall": {"name": "f"}});
    let one = |index: Value, reason: Value| json!({"index": index, "content": {"parts": [call]}, "finishReason": reason});
    let both =
        |reason: Value| json!({"candidates": [one(Value::Null, reason.clone()), one(json!(1), reason)]});
    upstream.reply(Reply::json(200, &both(json!("STOP"))));
    upstream.reply(Reply::chunks(&[both(Value::Null), both(json!("STOP"))]));
    let answer = hub.chat(hello("priced")).await.expect("an answer");
    assert_eq!(answer["choices"].as_array().map(Vec::len), Some(2));
    let stream = hub.stream(hello_streamed("priced")).await.expect("a stream");
    for (place, chunk) in chunks(&stream).iter().enumerate() {
        for (index, choice) in chunk["choices"].as_array().expect("choices").iter().enumerate() {
            assert_eq!(choice["index"], index);
            assert_eq!(choice["delta"]["tool_calls"][0]["index"], place);
        }
    }
}

#[tokio::test]
async fn embeddings_are_one_request_for_each_text() {
    let (mut hub, upstream) = gemini().await;
    let embeddings = json!([{"values": [0.5, -1.0]}, {"values": [0.25, 0.0]}]);
    upstream.reply(Reply::json(200, &json!({"embeddings": embeddings})));
    let body = json!({"model": "google/gemini-embedding-001", "input": ["a", "b"], "dimensions": 2});
    let answer = hub.embed(body).await.expect("an answer");
    let request = |text: &str| json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]}, "outputDimensionality": 2});
    let call = &upstream.calls()[0];
    assert_eq!(call.path, "/v1/models/gemini-embedding-001:batchEmbedContents");
    assert_eq!(call.body, json!({"requests": [request("a"), request("b")]}));
    assert_eq!(answer["data"][1], json!({"object": "embedding", "index": 1, "embedding": [0.25, 0.0]}));
    assert_eq!((&answer["object"], &answer["usage"]["estimated"]), (&json!("list"), &json!(true)));
    assert!(hub.rows.next_row().await.expect("a row").estimated);

    let counted = json!({"embeddings": [{"values": [0.5, -1.0]}], "usageMetadata": {"promptTokenCount": 3}});
    upstream.reply(Reply::json(200, &counted));
    let body = json!({"model": "gemini-embedding-001", "input": "a", "encoding_format": "base64"});
    let answer = hub.embed(body).await.expect("an answer");
    assert_eq!(answer["data"][0]["embedding"], "AAAAPwAAgL8=");
    assert_eq!(answer["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
}

#[tokio::test]
async fn the_listing_tells_what_a_model_is_for() {
    let (hub, upstream) = gemini().await;
    let models = hub.list().await;
    let told: Vec<_> = models.iter().map(|model| (model.id.as_str(), model.capabilities.join(","))).collect();
    let chat = |id: &'static str| (id, "chat".to_owned());
    assert_eq!(
        told[..5],
        [
            chat("google/priced"),
            chat("google/gemini-2.5-flash"),
            chat("google/gemini-3-flash"),
            ("google/gemini-embedding-001", "embeddings".to_owned()),
            chat("google/tunedModels/mine"),
        ]
    );
    assert!(!told.iter().any(|(id, _)| id.contains("veo")));
    let flash = &models[1];
    assert_eq!(flash.description.as_deref(), Some("MODELS/GEMINI-2.5-FLASH"));
    assert_eq!(flash.context_length, Some(1_048_576));
    upstream.reply(Reply::json(200, &says(json!([{"text": "Hi"}]), json!("STOP"), json!({}))));
    hub.chat(hello("google/tunedModels/mine")).await.expect("an answer");
    assert_eq!(upstream.calls()[0].path, "/v1/tunedModels/mine:generateContent");
}
