//! What agents remember: the tools, what is recalled before a goal, and facts
//! that are extracted from a run.

use nh_testkit::upstream::{Reply, Upstream};
use serde_json::{Value, json};

use crate::agent_runs::{app_and_model, call, calls, says, sent};
use crate::app::TestApp;
use crate::upstream::MODEL;

/// The agent `a` with this memory setting.
async fn with_memory(memory: Value, replies: impl IntoIterator<Item = Reply>) -> (TestApp, Upstream) {
    let (app, upstream) = app_and_model(replies).await;
    let change = app.call(http::Method::PATCH, "/v1/agents/a").json(json!({"memory": memory}));
    assert_eq!(change.send().await.ok(200)["memory"], memory);
    (app, upstream)
}

async fn remember(app: &TestApp, content: &str, namespace: &str) {
    app.post("/v1/memory", json!({"content": content, "namespace": namespace})).send().await.ok(201);
}

async fn ask(app: &TestApp, goal: &str) -> Value {
    let run = app.post("/v1/run", json!({"target": "a", "type": "agent", "input": {"goal": goal}}));
    let run = run.send().await.ok(200);
    assert_eq!(run["state"], "SUCCESS", "{run}");
    run
}

async fn contents(app: &TestApp, query: &str) -> Vec<String> {
    let list = app.get(&format!("/v1/memory?{query}")).send().await.ok(200);
    let memories = list["memories"].as_array().expect("memories").iter();
    memories.map(|memory| memory["content"].as_str().expect("text").to_owned()).collect()
}

async fn step(app: &TestApp, run: &Value, kind: &str) -> Value {
    let events =
        app.get(&format!("/v1/run/{}/events", run["runId"].as_str().expect("id"))).send().await.ok(200);
    let events = events["events"].as_array().expect("events").clone();
    let is_end = |event: &&Value| {
        event["type"].as_str().is_some_and(|name| name.starts_with("step.") && name != "step.started")
            && event["data"]["step"] == kind
    };
    events.iter().find(is_end).unwrap_or_else(|| panic!("no {kind}: {events:?}"))["data"].clone()
}

#[tokio::test]
async fn what_fits_the_goal_is_put_before_it() {
    let (app, upstream) =
        with_memory(json!("auto"), [calls(&[call("c1", "current_time", "{}")]), says("A window seat.")])
            .await;
    remember(&app, "Mara prefers window seats on short flights.", "default").await;
    remember(&app, "The office plants are watered on Mondays.", "default").await;
    remember(&app, "Mara prefers aisle seats, says an old note.", "elsewhere").await;
    let run = ask(&app, "Book a seat on the plane for Mara.").await;
    for turn in 0..2 {
        let messages = sent(&upstream, turn)["messages"].clone();
        let recalled = messages[1]["content"].as_str().expect("text");
        assert!(
            recalled.contains("- \"Mara prefers window seats") && recalled.contains("nothing in it is an"),
            "{recalled}"
        );
        assert!(!recalled.contains("plants") && !recalled.contains("aisle"), "{recalled}");
        assert_eq!(messages[2], json!({"role": "user", "content": "Book a seat on the plane for Mara."}));
    }
    let told = step(&app, &run, "recall").await;
    assert_eq!(told["output"]["memories"].as_array().map(Vec::len), Some(1), "{told}");
}

#[tokio::test]
async fn an_agent_of_another_workspace_recalls_nothing_of_this_one() {
    let facts = "{\"facts\": [\"Mara prefers window seats on short flights.\"]}";
    let search = call("c1", "memory_search", "{\"query\": \"seats\", \"namespace\": \"*\"}");
    let (app, upstream) =
        app_and_model([calls(&[search]), says("No idea."), says(facts), says("A window seat.")]).await;
    remember(&app, "Mara prefers window seats on short flights.", "default").await;
    let ours = contents_with_ids(&app, &app.key).await;
    let (_, theirs) = app.other_workspace().await;
    let memory = json!({"mode": "auto", "max_tokens": 1000, "extract": true});
    let agent = json!({"id": "a", "name": "A", "model_id": MODEL, "memory": memory});
    app.post("/v1/agents", agent).key(&theirs).send().await.ok(201);
    let body =
        json!({"target": "a", "type": "agent", "input": {"goal": "Book a seat on the plane for Mara."}});
    let ask = || app.post("/v1/run", body.clone()).key(&theirs).send();

    let run = ask().await.ok(200);
    assert_eq!(run["state"], "SUCCESS", "{run}");
    for turn in 0..3 {
        let sent = sent(&upstream, turn)["messages"].to_string();
        assert!(!sent.contains("window"), "{sent}");
    }
    // What was extracted is theirs: recalled there, and nothing changed here.
    let run = ask().await.ok(200);
    let recalled = sent(&upstream, 3)["messages"][0]["content"].as_str().expect("text").to_owned();
    assert!(recalled.contains("- \"Mara prefers window seats"), "{recalled}");
    assert_eq!(run["state"], "SUCCESS", "{run}");
    let (here, there) = (contents_with_ids(&app, &app.key).await, contents_with_ids(&app, &theirs).await);
    assert_eq!(here, ours);
    assert_eq!((there.len(), &there[0].1), (1, &here[0].1));
    assert_ne!(there[0].0, here[0].0);
}

async fn contents_with_ids(app: &TestApp, key: &str) -> Vec<(String, String)> {
    let list = app.get("/v1/memory?namespace=*").key(key).send().await.ok(200);
    let text = |field: &Value| field.as_str().expect("text").to_owned();
    let memories = list["memories"].as_array().expect("memories").iter();
    memories.map(|memory| (text(&memory["id"]), text(&memory["content"]))).collect()
}

#[tokio::test]
async fn what_is_recalled_stays_within_its_bound() {
    let memory = json!({"mode": "auto", "namespace": "notes", "max_tokens": 50, "extract": false});
    let (app, upstream) = with_memory(memory, [says("Yes.")]).await;
    for number in 0..10 {
        remember(
            &app,
            &format!("Note {number}: Mara keeps the tea in the kitchen, on shelf {number}."),
            "notes",
        )
        .await;
    }
    ask(&app, "Where does Mara keep the tea?").await;
    let recalled = sent(&upstream, 0)["messages"][1]["content"].as_str().expect("text").to_owned();
    let lines = recalled.lines().filter(|line| line.starts_with("- ")).count();
    assert!((1..=4).contains(&lines), "{recalled}");
}

#[tokio::test]
async fn a_run_that_may_not_read_memories_recalls_none() {
    let (app, upstream) = with_memory(json!("auto"), [says("No idea.")]).await;
    remember(&app, "Mara prefers window seats on short flights.", "default").await;
    let key = app.key_with("run:write").await;
    let body = json!({"target": "a", "type": "agent", "input": {"goal": "Where does Mara sit?"}});
    let run = app.post("/v1/run", body).key(&key).send().await.ok(200);
    assert_eq!(run["state"], "SUCCESS", "{run}");
    let sent = sent(&upstream, 0);
    assert_eq!(sent["messages"].as_array().map(Vec::len), Some(2), "{sent}");
    let offered = sent["tools"].to_string();
    assert!(!offered.contains("memory_search"), "{offered}");
}

#[tokio::test]
async fn an_agent_whose_memory_is_off_has_no_memory_tools() {
    let (app, upstream) = with_memory(json!("off"), [says("Done.")]).await;
    ask(&app, "Anything.").await;
    let offered = sent(&upstream, 0)["tools"].to_string();
    assert!(offered.contains("calculate") && !offered.contains("memory_"), "{offered}");
}

#[tokio::test]
async fn tools_mean_the_agents_own_namespace() {
    let memory = json!({"mode": "on_demand", "namespace": "mara", "max_tokens": 1000, "extract": false});
    let store = |id: &str, arguments: &str| call(id, "memory_store", arguments);
    let replies = [
        calls(&[
            store("c1", "{\"content\": \"One.\"}"),
            store("c2", "{\"content\": \"Two.\", \"namespace\": \"other\"}"),
        ]),
        says("Done."),
    ];
    let (app, _upstream) = with_memory(memory, replies).await;
    ask(&app, "Remember one and two.").await;
    let mut kept = contents(&app, "namespace=mara").await;
    kept.sort_unstable();
    assert_eq!(kept, ["One.", "Two."], "whatever the model names");
    assert_eq!(contents(&app, "namespace=other").await, Vec::<String>::new());
}

#[tokio::test]
async fn facts_are_extracted_and_their_cost_is_told() {
    let memory = json!({"mode": "on_demand", "max_tokens": 1000, "extract": true});
    let answer =
        "```json\n{\"facts\": [\"Mara moved to Lisbon in May.\", \"Mara has a dog named Pixel.\"]}\n```";
    let (app, upstream) = with_memory(memory, [says("How nice!"), says(answer)]).await;
    remember(&app, "Mara has a dog named Pixel.", "default").await;
    let run = ask(&app, "I am Mara; I moved to Lisbon in May with my dog Pixel.").await;
    assert_eq!(run["result"], "How nice!");
    let order = sent(&upstream, 1);
    assert!(
        order["tools"].is_null()
            && order["messages"][1]["content"].as_str().is_some_and(|text| text.contains("How nice!"))
    );
    let told = step(&app, &run, "extract").await;
    let stored = told["output"]["stored"].as_array().expect("stored").clone();
    assert_eq!(
        (stored.len(), &stored[0]["new"], &stored[1]["new"]),
        (2, &json!(true), &json!(false)),
        "{told}"
    );
    assert_eq!(
        contents(&app, &format!("run_id={}", run["runId"].as_str().expect("id"))).await,
        ["Mara moved to Lisbon in May."]
    );
    assert_eq!(run["usage"]["inputTokens"], json!(20), "the extraction is counted");
    let by_model = run["usage"]["byModel"].as_array().expect("models").clone();
    assert_eq!((by_model.len(), &by_model[0]["calls"]), (1, &json!(2)), "{by_model:?}");
}

#[tokio::test]
async fn an_extraction_that_fails_fails_no_run() {
    let memory = json!({"mode": "on_demand", "max_tokens": 1000, "extract": true});
    let (app, _upstream) = with_memory(memory, [says("Fine."), says("I would rather not.")]).await;
    let run = ask(&app, "Hello.").await;
    assert_eq!(run["result"], "Fine.");
    let told = step(&app, &run, "extract").await;
    assert_eq!(told["output"]["error"], "the model answered without JSON", "{told}");
    assert_eq!(run["usage"]["inputTokens"], json!(20), "what it cost is told");
    assert_eq!(contents(&app, "namespace=*").await, Vec::<String>::new());
}
