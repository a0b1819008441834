//! What clients and models find out: resources, prompts, pages, the registry and llms.txt.

use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::mcp::{NEW, code, names, new, old, told};

#[tokio::test]
async fn memories_files_and_runs_are_resources() {
    let app = TestApp::new().await;
    let memory =
        app.post("/v1/memory", json!({"content": "The cat is grey."})).send().await.ok(201)["id"].clone();
    app.call(Method::POST, "/v1/storage/upload?pathname=a%20b/t%C3%A9st.txt")
        .body("words")
        .send()
        .await
        .ok(201);
    app.call(Method::POST, "/v1/storage/upload?pathname=bytes.bin")
        .body(vec![0_u8, 255])
        .send()
        .await
        .ok(201);
    let run = told(&app, "tools/call", json!({"name": "current_time", "arguments": {}})).await;
    let run = run["_meta"]["neuralhub/runId"].as_str().expect("a run").to_owned();
    let listed = told(&app, "resources/list", json!({})).await;
    let uris: Vec<&str> = listed["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["uri"].as_str().expect("a uri"))
        .collect();
    let memory = format!("neuralhub://memories/{}", memory.as_str().expect("an id"));
    let run = format!("neuralhub://runs/{run}");
    let file = "neuralhub://storage/a%20b/t%C3%A9st.txt";
    assert_eq!(uris, [memory.as_str(), file, "neuralhub://storage/bytes.bin", run.as_str()]);

    let read = |uri: &str| told(&app, "resources/read", json!({"uri": uri}));
    let shown = |read: Value| {
        serde_json::from_str::<Value>(read["contents"][0]["text"].as_str().expect("text")).expect("json")
    };
    assert_eq!(shown(read(&memory).await)["content"], "The cat is grey.");
    assert_eq!(shown(read(&run).await)["target"], "current_time");
    let text = read(file).await;
    assert_eq!((&text["contents"][0]["text"], &text["contents"][0]["uri"]), (&json!("words"), &json!(file)));
    assert_eq!(read("neuralhub://storage/bytes.bin").await["contents"][0]["blob"], "AP8=");
    assert_eq!(
        told(&app, "resources/templates/list", json!({})).await["resourceTemplates"].as_array().map(Vec::len),
        Some(3)
    );

    let (_, theirs) = app.other_workspace().await;
    let few = app.key_with("tools:read memories:read").await;
    let reply = old(&app, &few, "resources/list", json!({})).send().await.ok(200);
    assert_eq!(reply["result"]["resources"].as_array().map(Vec::len), Some(1));
    for (key, uri) in [
        (&theirs, memory.as_str()),
        (&theirs, file),
        (&theirs, &run),
        (&few, file),
        (&few, &run),
        (&app.key, "file:///etc/passwd"),
        (&app.key, "neuralhub://storage/../x"),
    ] {
        let reply = old(&app, key, "resources/read", json!({"uri": uri})).send().await;
        assert_eq!(code(&reply, 200), -32002, "{uri}");
    }
    let gone = new(&app, &app.key, "resources/read", json!({"uri": "neuralhub://storage/none"}), json!({}))
        .send()
        .await;
    assert_eq!(code(&gone, 200), -32602);
}

#[tokio::test]
async fn agents_are_prompts() {
    let app = TestApp::new().await;
    let agent = json!({"id": "pirate", "name": "Pirate", "description": "Talks so.", "system_prompt": "Talk as a pirate."});
    app.post("/v1/agents", agent).send().await.ok(201);
    let listed = told(&app, "prompts/list", json!({})).await;
    assert_eq!(names(&listed["prompts"]), ["pirate", "agent_default"]);
    let prompt =
        told(&app, "prompts/get", json!({"name": "pirate", "arguments": {"goal": "Greet me."}})).await;
    let said: Vec<_> =
        prompt["messages"].as_array().expect("a list").iter().map(|one| &one["content"]["text"]).collect();
    assert_eq!(said, ["Talk as a pirate.", "Greet me."]);
    for params in [json!({"name": "nobody"}), json!({"name": "pirate", "arguments": {"gaol": "x"}})] {
        assert_eq!(code(&old(&app, &app.key, "prompts/get", params).send().await, 200), -32602);
    }
    let few = app.key_with("tools:read").await;
    let reply = old(&app, &few, "prompts/list", json!({})).send().await.ok(200);
    assert_eq!(reply["result"]["prompts"], json!([]));
    assert_eq!(code(&old(&app, &few, "prompts/get", json!({"name": "pirate"})).send().await, 200), -32602);
}

#[tokio::test]
async fn lists_go_on_where_they_ended() {
    let app = TestApp::new().await;
    for number in 0..3 {
        app.post("/v1/agents", json!({"name": format!("a{number}")})).send().await.ok(201);
    }
    let whole = app.get("/v1/mcp/manifest").send().await.ok(200);
    assert!(whole["nextCursor"].is_null(), "{whole}");
    let (mut seen, mut path) = (Vec::new(), "/v1/mcp/manifest?limit=5".to_owned());
    loop {
        let page = app.get(&path).send().await.ok(200);
        seen.extend(page["tools"].as_array().expect("tools").clone());
        let Some(next) = page["nextCursor"].as_str() else { break };
        path = format!("/v1/mcp/manifest?limit=5&cursor={next}");
    }
    assert_eq!(json!(seen), whole["tools"]);
    assert_eq!(whole["tools"], told(&app, "tools/list", json!({})).await["tools"]);
    assert_eq!(whole["endpoint"], "http://127.0.0.1:8080/v1/mcp");
    assert_eq!((&whole["name"], &whole["protocolVersion"]), (&json!("neuralhub"), &json!(NEW)));
}

#[tokio::test]
async fn a_registry_is_told_where_the_hub_is() {
    let url = "https://hub.example.com".parse().expect("a url");
    let settings =
        nh_server::ServerSettings { public_url: Some(url), ..nh_server::ServerSettings::default() };
    let app = TestApp::with(settings, Vec::new()).await;
    let entry = app.get("/v1/mcp/server.json").send().await.ok(200);
    assert_eq!(entry["name"], "com.example.hub/neuralhub");
    assert_eq!(entry["remotes"][0]["url"], "https://hub.example.com/v1/mcp");
    assert!(entry["description"].as_str().is_some_and(|text| text.len() <= 100), "{entry}");
}

#[tokio::test]
async fn llms_txt_lists_what_the_reader_may_call() {
    let app = TestApp::new().await;
    let anyone = app.anonymous(Method::GET, "/llms.txt").header("accept", "*/*").send().await;
    assert_eq!(
        (anyone.header("content-type"), anyone.header("vary")),
        ("text/markdown; charset=utf-8", "Accept, Authorization, Cookie")
    );
    let text = String::from_utf8(anyone.body.to_vec()).expect("text");
    assert!(text.starts_with("# NeuralHub Capabilities\n\n> "), "{text}");
    assert!(text.contains("- [web_search](http://127.0.0.1:8080/v1/tools/web_search): "), "{text}");
    assert!(!text.contains("agent_default"), "{text}");
    let shown = app.get("/llms.txt").header("accept", "application/json").send().await.ok(200);
    let text = shown["content"].as_str().expect("text");
    assert!(
        text.contains("- [run_agent_default](http://127.0.0.1:8080/v1/agents/agent_default): "),
        "{text}"
    );
    assert!(!text.contains("[web_search]"), "{text}");
    let full = app.get("/llms-full.txt").send().await;
    let text = String::from_utf8(full.body.to_vec()).expect("text");
    assert!(text.contains("- `POST /v1/run` (run:write): ") && text.contains("## calculate\n"), "{text}");
    let wrong = app.anonymous(Method::GET, "/llms.txt").key("nh_wrong").send().await;
    assert_eq!(wrong.status.as_u16(), 401);
}
