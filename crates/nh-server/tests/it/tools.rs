//! `/v1/tools` and `/v1/models`.

use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn tools_are_listed_with_why_one_does_not_work() {
    let app = TestApp::new().await;
    let tools = app.get("/v1/tools").send().await.ok(200);
    let names: Vec<_> =
        tools["tools"].as_array().expect("tools").iter().map(|tool| tool["name"].clone()).collect();
    let all = [
        "calculate",
        "current_time",
        "http_fetch",
        "memory_search",
        "memory_store",
        "run_node",
        "run_python",
        "storage_list",
        "storage_read",
        "storage_write",
        "web_search",
    ];
    assert_eq!(names, all);
    let search = &tools["tools"][10];
    assert_eq!(search["available"], json!(false));
    assert!(
        search["unavailable_reason"].as_str().is_some_and(|reason| reason.contains("search")),
        "{search}"
    );
    let page = app.get("/v1/tools?limit=10").send().await.ok(200);
    let cursor = page["next_cursor"].as_str().expect("cursor");
    let rest = app.get(&format!("/v1/tools?limit=10&cursor={cursor}")).send().await.ok(200);
    assert_eq!(rest["tools"], json!([search]));
    assert_eq!(rest["next_cursor"], json!(null));
}

#[tokio::test]
async fn models_come_in_both_shapes_and_by_id_with_either_slash() {
    let app = TestApp::new().await;
    let list = app.get("/v1/models").send().await.ok(200);
    assert_eq!(list["object"], json!("list"));
    assert_eq!(list["data"], list["models"]);
    let offline = &list["models"][0];
    assert_eq!(offline["id"], json!("neuralhub/offline"));
    for path in
        ["/v1/models/neuralhub/offline", "/v1/models/neuralhub%2Foffline", "/v1/models/neuralhub%2foffline"]
    {
        assert_eq!(&app.get(path).send().await.ok(200), offline, "{path}");
    }
    for path in ["/v1/models/nobody/nothing", "/v1/models/%2e%2e%2fkeys", "/v1/models/a%252Fb"] {
        let reply = app.get(path).send().await;
        assert_eq!(reply.error(404), ("model_not_found".to_owned(), Some("model".to_owned())), "{path}");
    }
}
