//! What agents store: the three tools, and which run an object is from.

use http::Method;
use nh_testkit::upstream::{Reply, Upstream};
use serde_json::{Value, json};

use crate::agent_runs::{app_and_model, call, calls, says, sent};
use crate::app::TestApp;
use crate::storage::{names, read, upload};

async fn ask(replies: impl IntoIterator<Item = Reply>) -> (TestApp, Upstream, Value) {
    let (app, upstream) = app_and_model(replies).await;
    let run = app.post("/v1/run", json!({"target": "a", "type": "agent", "input": {"goal": "Do it."}}));
    let run = run.send().await.ok(200);
    assert_eq!(run["state"], "SUCCESS", "{run}");
    (app, upstream, run)
}

async fn tool(app: &TestApp, name: &str, input: Value) -> Value {
    let run = app.post("/v1/run", json!({"target": name, "type": "tool", "input": input})).send().await;
    run.ok(200)
}

/// What the model was told of its last calls.
fn told(upstream: &Upstream, turn: usize, count: usize) -> Vec<String> {
    let messages = sent(upstream, turn)["messages"].as_array().expect("messages").clone();
    let last =
        messages[messages.len() - count..].iter().inspect(|message| assert_eq!(message["role"], "tool"));
    last.map(|message| message["content"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn an_agent_writes_lists_and_reads_files() {
    let write =
        call("c1", "storage_write", r##"{"pathname": "reports/may.md", "content": "# May\nAll is well."}"##);
    let list = call("c2", "storage_list", r#"{"folder": "reports"}"#);
    let whole = call("c3", "storage_read", r#"{"pathname": "reports/may.md"}"#);
    let part = call("c4", "storage_read", r#"{"pathname": "reports/may.md", "offset": 2, "max_bytes": 3}"#);
    let (app, upstream, run) = ask([calls(&[write]), calls(&[list, whole, part]), says("Done.")]).await;
    assert_eq!(told(&upstream, 1, 1), ["Stored reports/may.md (18 bytes, text/markdown; charset=utf-8)."]);
    let told = told(&upstream, 2, 3);
    assert!(
        told[0].starts_with("- \"reports/may.md\" (18 bytes, text/markdown; charset=utf-8, 20"),
        "{told:?}"
    );
    assert_eq!(told[1..], ["# May\nAll is well.", "May\n\n[bytes 2 to 5 of 18; the rest with offset 5]"]);
    let blobs = app.get("/v1/storage/list").send().await.ok(200)["blobs"].clone();
    let source = &blobs[0]["source"];
    assert_eq!(source["runId"], run["runId"]);
    assert!(
        source["step"].is_string() && source["createdBy"].as_str().is_some_and(|by| by.starts_with("key:"))
    );
    assert_eq!(read(&app, &blobs[0]).await.body, "# May\nAll is well.");
}

#[tokio::test]
async fn a_tool_run_gives_values_and_errors_that_say_what_to_do() {
    let app = TestApp::new().await;
    let written =
        tool(&app, "storage_write", json!({"pathname": "a/b.bin", "content": "AP8=", "encoding": "base64"}))
            .await;
    assert_eq!(written["result"]["size"], 2, "{written}");
    assert_eq!(written["result"]["pathname"], format!("{}/a/b.bin", app.workspace_id));
    let read = tool(&app, "storage_read", json!({"pathname": written["result"]["pathname"]})).await;
    assert_eq!((&read["result"]["content"], &read["result"]["encoding"]), (&json!("AP8="), &json!("base64")));
    upload(&app, "pathname=c", "x").send().await.ok(201);
    let listed = tool(&app, "storage_list", json!({"limit": 1})).await;
    assert_eq!(
        (&listed["result"]["folders"], &listed["result"]["next_after"]),
        (&json!([format!("{}/a/", app.workspace_id)]), &json!("a/"))
    );
    let rest = tool(&app, "storage_list", json!({"after": listed["result"]["next_after"]})).await;
    assert_eq!(rest["result"]["files"][0]["pathname"], format!("{}/c", app.workspace_id));
    let (other, _) = app.other_workspace().await;
    for (name, input, word) in [
        ("storage_write", json!({"pathname": "c", "content": "y"}), "overwrite"),
        ("storage_write", json!({"pathname": "../c", "content": "y"}), "`..`"),
        ("storage_write", json!({"pathname": format!("{other}/c"), "content": "y"}), "no file"),
        ("storage_write", json!({"pathname": "d", "content": "?", "encoding": "base64"}), "base64"),
        ("storage_read", json!({"pathname": "nothing"}), "storage_list"),
        ("storage_read", json!({"pathname": "a/"}), "slash"),
        ("storage_list", json!({"folder": format!("{other}/")}), "no folder"),
    ] {
        let run = tool(&app, name, input.clone()).await;
        assert_eq!(run["state"], "FAILED", "{input}");
        assert!(
            run["error"]["message"].as_str().is_some_and(|message| message.contains(word)),
            "{input}: {run}"
        );
    }
    tool(&app, "storage_write", json!({"pathname": "c", "content": "y", "overwrite": true})).await;
    assert_eq!(names(&app, "").await, ["a/b.bin", "c"]);
}

#[tokio::test]
async fn a_run_without_the_scope_is_offered_no_storage() {
    let (app, upstream) = app_and_model([says("No."), says("No.")]).await;
    for (scopes, offered) in [("run:write agents:read", 0), ("run:write agents:read storage:read", 2)] {
        let key = app.key_with(scopes).await;
        let run = app.post("/v1/run", json!({"target": "a", "type": "agent", "input": {"goal": "Do it."}}));
        run.key(&key).send().await.ok(200);
        let tools = sent(&upstream, usize::from(offered > 0))["tools"].as_array().expect("tools").clone();
        let of_storage = |tool: &&Value| {
            tool["function"]["name"].as_str().is_some_and(|name| name.starts_with("storage_"))
        };
        assert_eq!(tools.iter().filter(of_storage).count(), offered, "{scopes}");
    }
    let key = app.key_with("run:write tools:call storage:read").await;
    let body = json!({"target": "storage_write", "type": "tool", "input": {"pathname": "a", "content": "b"}});
    let refused = app.call(Method::POST, "/v1/run").json(body).key(&key).send().await;
    assert_eq!(refused.code(403), "missing_scope");
}
