//! Every example of the API reference, for the endpoints that are built: the
//! request as printed there, and an answer that holds all that is printed.

use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::sandboxes;

/// All fields of `printed` are in `answer`, with values of the same kind. The
/// answer may hold more.
#[track_caller]
fn assert_holds(answer: &Value, printed: &Value) {
    match (answer, printed) {
        (Value::Object(answer), Value::Object(printed)) => {
            for (name, value) in printed {
                assert_holds(answer.get(name).unwrap_or_else(|| panic!("no `{name}` in {answer:?}")), value);
            }
        }
        (Value::Array(answer), Value::Array(printed)) => {
            assert!(!answer.is_empty() || printed.is_empty(), "an empty list");
            for (answer, printed) in answer.iter().zip(printed) {
                assert_holds(answer, printed);
            }
        }
        // A price that nobody knows is null; last_used_at is null until used.
        (Value::Null, Value::Number(_)) | (_, Value::Null) => {}
        _ => assert_eq!(
            std::mem::discriminant(answer),
            std::mem::discriminant(printed),
            "{answer} is not of the kind of {printed}"
        ),
    }
}

#[tokio::test]
async fn run_a_goal_and_poll_it() {
    let app = TestApp::new().await;
    let request = json!({
        "target": "agent_default",
        "type": "agent",
        "input": {"goal": "Find the latest news on AI agents"},
        "async": true
    });
    let answer = app.post("/v1/run", request).send().await.ok(202);
    assert_holds(&answer, &json!({"runId": "550e8400-e29b-41d4-a716-446655440000", "status": "pending"}));
    assert_eq!(answer["status"], json!("pending"));
    let id = answer["runId"].as_str().expect("id");
    assert_eq!(id.len(), "550e8400-e29b-41d4-a716-446655440000".len());
    assert_eq!(id.as_bytes()[14], b'7', "a UUIDv7");

    // The same goal with a tool that works without a network.
    let request = json!({"target": "agent_default", "type": "agent", "input": {"goal": "What is 17 * 23?"}});
    let id = app.post("/v1/run", request).send().await.ok(200)["runId"].as_str().expect("id").to_owned();
    let answer = app.get(&format!("/v1/run/{id}")).send().await.ok(200);
    let printed = json!({
        "runId": "550e8400...",
        "state": "SUCCESS",
        "result": "The internet started in the 1960s with ARPANET...",
        "events": [{"tool": "web_search", "input": "ARPANET history", "output": "..."}],
        "createdAt": "2026-02-06T12:00:00Z"
    });
    assert_holds(&answer, &printed);
    assert_eq!(answer["state"], json!("SUCCESS"));
    assert_eq!(answer["events"][0]["tool"], json!("calculate"));
    assert_eq!(answer["createdAt"], json!("2026-02-06T12:00:00.000Z"));
}

#[tokio::test]
async fn list_agents_and_get_one() {
    let app = TestApp::new().await;
    let made = json!({"id": "agent_1", "name": "Research Assistant", "model_id": "google/gemini-2.5-flash-lite",
        "system_prompt": "You are a helpful researcher..."});
    app.clock.advance_ms(1);
    app.post("/v1/agents", made).send().await.ok(201);
    let answer = app.get("/v1/agents").send().await.ok(200);
    let printed =
        json!({"id": "agent_1", "name": "Research Assistant", "model_id": "google/gemini-2.5-flash-lite"});
    for (name, value) in printed.as_object().expect("object") {
        assert_eq!(&answer[0][name], value);
    }
    assert_holds(&answer, &json!([printed]));
    let answer = app.get("/v1/agents/agent_1").send().await.ok(200);
    let printed = json!({"id": "agent_1", "name": "Research Assistant", "system_prompt": "You are a helpful researcher..."});
    for (name, value) in printed.as_object().expect("object") {
        assert_eq!(&answer[name], value);
    }
}

#[tokio::test]
async fn list_models_and_chat() {
    let app = TestApp::new().await;
    let answer = app.get("/v1/models").send().await.ok(200);
    assert_holds(
        &answer,
        &json!({"models": [{"id": "google/gemini-2.5-flash-lite", "input_cost": 0.1, "output_cost": 0.3}]}),
    );

    let mut request = json!({
        "model": "neuralhub/offline",
        "messages": [
            {"role": "system", "content": "You are an assistant."},
            {"role": "user", "content": "Hello!"}
        ],
        "stream": true
    });
    let reply = app.post("/v1/chat/completions", request.clone()).send().await;
    assert_eq!(reply.header("content-type"), "text/event-stream");
    // The printed answer is the form that is not streamed.
    request["stream"] = json!(false);
    let answer = app.post("/v1/chat/completions", request).send().await.ok(200);
    assert_holds(
        &answer,
        &json!({"id": "chatcmpl-123", "object": "chat.completion",
        "choices": [{"index": 0, "message": {"content": "Hello!"}}]}),
    );
    assert_eq!(answer["object"], json!("chat.completion"));
}

#[tokio::test]
async fn create_a_key_and_list_keys() {
    let app = TestApp::new().await;
    let request =
        json!({"name": "Agent Production Key", "scopes": ["chat:write", "run:write", "memories:read"]});
    let answer = app.post("/v1/keys", request).send().await.ok(201);
    let printed =
        json!({"key": "nh_a1b2c3d4...", "id": 42, "prefix": "nh_a1b2", "created_at": "2026-02-06T12:00:00Z"});
    assert_holds(&answer, &printed);
    assert!(answer["key"].as_str().is_some_and(|key| key.starts_with("nh_")));
    assert_eq!(answer["prefix"].as_str().map(str::len), Some("nh_a1b2".len()));

    let listed = app.get("/v1/keys").send().await.ok(200);
    assert_holds(
        &listed,
        &json!({"keys": [{"id": 42, "name": "Agent Key", "prefix": "nh_a1b2", "last_used_at": null}]}),
    );
    assert_eq!(listed["keys"][0]["last_used_at"], json!(null));
    // The printed key must poll its run.
    let key = answer["key"].as_str().expect("key");
    let request = json!({"target": "agent_default", "type": "agent", "input": {"goal": "What is 2 + 2?"}});
    let run = app.post("/v1/run", request).key(key).send().await.ok(200);
    app.get(&format!("/v1/run/{}", run["runId"].as_str().expect("id"))).key(key).send().await.ok(200);
}

#[tokio::test]
async fn store_a_memory_and_search_for_it() {
    let app = TestApp::new().await;
    let request = json!({
        "content": "The user prefers Python over JavaScript.",
        "metadata": {"source": "chat_session_1"}
    });
    let stored = app.post("/v1/memory", request).send().await.ok(201);
    assert_holds(&stored, &json!({"id": "mem_123", "created_at": "2026-02-06T12:00:00Z"}));
    let found = app.get("/v1/memory/search?q=Which+language+does+the+user+like").send().await.ok(200);
    assert_holds(
        &found,
        &json!([{"id": "mem_123", "content": "User prefers Python...", "similarity": 0.89}]),
    );
    assert_eq!(found[0]["id"], stored["id"]);
}

#[tokio::test]
async fn upload_a_file_and_list_files() {
    let app = TestApp::new().await;
    let upload = app.call(Method::POST, "/v1/storage/upload").body("Binary File Content");
    let uploaded = upload.send().await.ok(201);
    assert_holds(&uploaded, &json!({"url": "https://...", "pathname": "workspace-id/file.png"}));
    let listed = app.get("/v1/storage/list").send().await.ok(200);
    assert_holds(&listed, &json!({"blobs": [{"url": "...", "pathname": "..."}]}));
    assert_eq!(listed["blobs"][0]["pathname"], uploaded["pathname"]);
}

#[tokio::test]
async fn launch_a_resource_list_and_terminate_it() {
    let app = sandboxes::app_of("python-data", |_| {}).await;
    let request = json!({"template": "python-data", "env": {"MY_VAR": "value"}});
    let launched = app.post("/v1/resources", request).send().await.ok(201);
    assert_holds(&launched, &json!({"id": "sbx-1", "url": "https://..."}));
    let listed = app.get("/v1/resources").send().await.ok(200);
    assert_holds(&listed, &json!([{"id": "sbx-1", "template": "python-data", "url": "https://..."}]));
    let id = launched["id"].as_str().expect("an id");
    assert!(app.delete(&format!("/v1/resources/{id}")).send().await.ok(204).is_null());
    sandboxes::close(&app).await;
}
