//! Runs that compute, in sandboxes of their own.

use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::sandboxes::{app, close};

/// What a run of one tool came to.
async fn tool(app: &TestApp, key: &str, target: &str, input: Value) -> Value {
    let body = json!({"target": target, "type": "tool", "input": input});
    let run = app.post("/v1/run", body).key(key).send().await.ok(200);
    if run["result"].is_object() { run["result"].clone() } else { run }
}

#[tokio::test]
async fn a_run_computes_in_a_sandbox_of_its_own_and_shares_files_with_the_storage() {
    let app = app().await;
    let csv = "city,people\nOslo,709\nBergen,291\n";
    app.call(Method::POST, "/v1/storage/upload?pathname=data/cities.csv").body(csv).send().await.ok(201);
    let code = "import csv\nrows = list(csv.DictReader(open('data/cities.csv')))\ntotal = sum(int(row['people']) for row in rows)\n\
                open('out/total.txt', 'w').write(str(total))\ntotal";
    let code = format!("import os; os.makedirs('out', exist_ok=True)\n{code}");
    let input = json!({"code": code, "files": ["data/cities.csv"], "save": ["out/total.txt"]});
    let told = tool(&app, &app.key, "run_python", input).await;
    assert_eq!((&told["exit_code"], &told["result"]), (&json!(0), &json!("1000")), "{told}");
    let pathname = format!("{}/out/total.txt", app.workspace_id);
    assert_eq!(told["files"][0]["pathname"], pathname);
    assert_eq!(&app.get(&format!("/v1/storage/{pathname}")).send().await.body[..], b"1000");

    // Two steps of one run have one sandbox; another run has another, and none outlives its own.
    let workflow = json!({"id": "twice", "name": "twice", "steps": [
        {"id": "a", "uses": "tool:run_python", "with": {"code": "kept = 6"}},
        {"id": "b", "uses": "tool:run_python", "needs": ["a"], "with": {"code": "kept * 7"}},
    ], "output": "{{ steps.b.output.result }}"});
    app.post("/v1/workflows", workflow).send().await.ok(201);
    let run =
        app.post("/v1/run", json!({"target": "twice", "type": "workflow", "input": {}})).send().await.ok(200);
    assert_eq!(run["result"], "42", "{run}");
    let told = tool(&app, &app.key, "run_python", json!({"code": "kept"})).await;
    assert!(told["stderr"].as_str().expect("text").contains("NameError"), "{told}");
    while app.get("/v1/resources").send().await.ok(200) != json!([]) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    // What could not be stored hides nothing of what the code said.
    let told = tool(&app, &app.key, "run_python", json!({"code": "1 / 0", "save": ["none.txt"]})).await;
    assert!(told["stderr"].as_str().expect("text").contains("ZeroDivisionError"), "{told}");
    assert_eq!((&told["files"], &told["not_stored"][0]["name"]), (&json!([]), &json!("none.txt")));

    // What a key may not do its code cannot either.
    let key = app.key_with("run:write resources:write tools:call").await;
    let told = tool(&app, &key, "run_python", json!({"code": "1", "files": ["data/cities.csv"]})).await;
    assert_eq!(told["error"]["code"], "missing_scope", "{told}");
    let told = tool(&app, &key, "run_python", json!({"code": "1"})).await;
    assert_eq!(told["result"], "1", "{told}");
    close(&app).await;
}

#[tokio::test]
async fn tools_whose_template_is_missing_say_so() {
    let app = app().await;
    let tools = app.get("/v1/tools").send().await.ok(200);
    let find = |name: &str| {
        tools["tools"].as_array().expect("tools").iter().find(|tool| tool["name"] == name).cloned()
    };
    assert_eq!(find("run_python").expect("a tool")["available"], true);
    let run = app.post(
        "/v1/run",
        json!({"target": "run_python", "type": "tool", "input": {"code": "x", "colour": 1}}),
    );
    assert_eq!(run.send().await.code(422), "invalid_input");
    let off = TestApp::new().await;
    let tools = off.get("/v1/tools").send().await.ok(200);
    let node =
        tools["tools"].as_array().expect("tools").iter().find(|tool| tool["name"] == "run_node").cloned();
    let node = node.expect("a tool");
    assert_eq!(node["available"], false);
    assert!(
        node["unavailable_reason"].as_str().expect("a reason").contains("[compute] driver is `off`"),
        "{node}"
    );
    let run = off.post("/v1/run", json!({"target": "run_node", "type": "tool", "input": {"code": "1"}}));
    assert_eq!(run.send().await.code(503), "component_unavailable");
}
