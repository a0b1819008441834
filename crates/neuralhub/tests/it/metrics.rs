//! `/metrics` of a whole hub in a process of its own, so that its numbers are
//! exactly those of what was done.

use nh_testkit::TestStore;
use nh_testkit::upstream::{Reply, Upstream};
use serde_json::{Value, json};

use crate::http::Client;
use crate::hub::TestHub;

/// A tool call whose model reports what it used.
pub(crate) fn calls_calculate() -> Reply {
    Reply::json(
        200,
        &json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "mock-1-2026",
            "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null,
                "tool_calls": [{"id": "call_1", "type": "function",
                    "function": {"name": "calculate", "arguments": "{\"expression\": \"6 * 7\"}"}}]}}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
                "prompt_tokens_details": {"cached_tokens": 400},
                "completion_tokens_details": {"reasoning_tokens": 20}}}),
    )
}

/// With a configuration whose only provider is this one.
pub(crate) fn folder(upstream: &Upstream) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = format!(
        "[[providers]]\nname = \"mock\"\nbase_url = \"{}\"\n\
         [[providers.models]]\nid = \"mock-1\"\ninput_cost = 1.0\noutput_cost = 2.0\n",
        upstream.base_url()
    );
    std::fs::write(folder.path().join("neuralhub.toml"), configuration).expect("written");
    folder
}

pub(crate) fn client(hub: &TestHub) -> Client {
    Client { address: hub.url.trim_start_matches("http://").parse().expect("an address"), key: hub.key() }
}

pub(crate) fn post(client: &Client, path: &str, body: &Value) -> Value {
    let answer = client.post(path, &[], body).expect("answered");
    assert!(answer.status < 300, "{}: {}", answer.status, answer.body);
    if answer.body.starts_with('{') { answer.json() } else { Value::String(answer.body) }
}

/// The value of one series.
pub(crate) fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).parse().expect("a number")
}

pub(crate) fn metrics(client: &Client) -> String {
    let text = client.get("/metrics", &[]).expect("answered").body;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        let name = name.split([' ', '{']).next().expect("a name");
        let whole = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_known = |name: &str| nh_server::METRICS.iter().any(|metric| metric.name == name);
        assert!(is_known(name) || whole.is_some_and(is_known), "not in the table of metrics: {line}");
    }
    text
}

#[test]
fn what_is_done_is_counted() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let upstream = runtime.block_on(Upstream::start()).expect("a port");
    let hub = TestHub::start_with(folder(&upstream), &[]);
    let client = client(&hub);

    upstream.reply(calls_calculate());
    let run = post(
        &client,
        "/v1/run",
        &json!({"target": "agent_default", "type": "agent", "input": {"goal": "What is 6 * 7?"}}),
    );
    assert_eq!(run["state"], json!("SUCCESS"), "{run}");
    let steps = json!([
        {"id": "pause", "uses": "sleep", "with": {"seconds": 0}},
        {"id": "sum", "uses": "tool:calculate", "with": {"expression": "1 + 1"}, "needs": ["pause"]},
        {"id": "bad", "uses": "tool:calculate", "with": {"expression": "1 +"}, "needs": ["sum"]},
    ]);
    post(&client, "/v1/workflows", &json!({"id": "sums", "name": "Sums", "steps": steps}));
    let run = post(&client, "/v1/run", &json!({"target": "sums", "type": "workflow"}));
    assert_eq!(run["state"], json!("FAILED"), "{run}");
    let hello =
        json!({"model": "mock-1", "stream": true, "messages": [{"role": "user", "content": "Hello!"}]});
    post(&client, "/v1/chat/completions", &hello);
    upstream.reply(Reply::error(429, "rate_limit_exceeded", "slow down").with_header("retry-after", "30"));
    let refused = client.post("/v1/chat/completions", &[], &hello).expect("answered");
    assert_eq!(refused.status, 429);
    let later = json!({"target": "calculate", "type": "tool", "input": {"expression": "1 + 1"},
        "async": true, "delay_seconds": 3600});
    post(&client, "/v1/run", &later);
    post(&client, "/v1/memory", &json!({"content": "Tea is at four."}));
    assert_eq!(client.get("/v1/memory/search?q=When+is+tea", &[]).expect("answered").status, 200);

    let metrics = metrics(&client);
    let model = |name: &str, more: &str| format!("{name}{{provider=\"mock\",model=\"mock-1\"{more}}}");
    let tokens = |direction: &str| {
        value(&metrics, &model("neuralhub_model_tokens_total", &format!(",direction=\"{direction}\"")))
    };
    // The agent's two calls and the stream; the second and the third use 9 and 2.
    assert_eq!(
        ["input", "output", "cached", "reasoning"].map(tokens),
        [1000.0 + 9.0 + 9.0, 50.0 + 2.0 + 2.0, 400.0, 20.0]
    );
    let dollars = value(&metrics, &model("neuralhub_model_call_dollars_sum", ""));
    assert!((dollars - (1018.0 + 2.0 * 54.0) / 1e6).abs() < 1e-12, "{dollars}");
    let series = [
        (model("neuralhub_model_calls_total", ",outcome=\"ok\""), 3.0),
        (model("neuralhub_model_calls_total", ",outcome=\"rate_limited\""), 1.0),
        (model("neuralhub_model_call_seconds_count", ""), 4.0),
        (model("neuralhub_model_first_chunk_seconds_count", ""), 3.0),
        ("neuralhub_steps_total{kind=\"model\",outcome=\"completed\"}".to_owned(), 2.0),
        ("neuralhub_steps_total{kind=\"tool\",outcome=\"completed\"}".to_owned(), 2.0),
        ("neuralhub_steps_total{kind=\"tool\",outcome=\"failed\"}".to_owned(), 1.0),
        ("neuralhub_step_seconds_bucket{kind=\"tool\",le=\"+Inf\"}".to_owned(), 3.0),
        ("neuralhub_tool_calls_total{tool=\"calculate\",outcome=\"completed\"}".to_owned(), 2.0),
        ("neuralhub_tool_calls_total{tool=\"calculate\",outcome=\"failed\"}".to_owned(), 1.0),
        ("neuralhub_tool_call_seconds_count{tool=\"calculate\"}".to_owned(), 3.0),
        ("neuralhub_waits_total{kind=\"sleep\",outcome=\"completed\"}".to_owned(), 1.0),
        ("neuralhub_wait_seconds_count{kind=\"sleep\"}".to_owned(), 1.0),
        ("neuralhub_runs_finished_total{state=\"success\"}".to_owned(), 1.0),
        ("neuralhub_runs_finished_total{state=\"failed\"}".to_owned(), 1.0),
        ("neuralhub_runs_unfinished{state=\"pending\"}".to_owned(), 1.0),
        ("neuralhub_runs_unfinished{state=\"running\"}".to_owned(), 0.0),
        ("neuralhub_runs_unfinished{state=\"waiting\"}".to_owned(), 0.0),
        ("neuralhub_runs_asleep".to_owned(), 1.0),
        ("neuralhub_runs_ready".to_owned(), 0.0),
        ("neuralhub_runs_running".to_owned(), 0.0),
        ("neuralhub_memory_embedded_texts_total".to_owned(), 2.0),
        ("neuralhub_memory_embed_seconds_count".to_owned(), 1.0),
        ("neuralhub_memory_search_seconds_bucket{le=\"+Inf\"}".to_owned(), 1.0),
    ];
    for (series, expected) in series {
        assert_eq!(value(&metrics, &series), expected, "{series}\n{metrics}");
    }
    assert!(value(&metrics, "neuralhub_memory_index_bytes") >= 384.0, "{metrics}");
    assert!(value(&metrics, "neuralhub_store_commit_writes_sum") >= 10.0, "{metrics}");
    assert!(value(&metrics, "neuralhub_store_commit_seconds_count") >= 5.0, "{metrics}");
    assert!(!metrics.contains("lease") && !metrics.contains("ws_"), "{metrics}");
}

#[test]
fn a_node_on_postgres_tells_of_its_lease_and_of_what_it_takes_over() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (store, upstream) =
        runtime.block_on(async { (TestStore::postgres().await, Upstream::start().await) });
    let (url, upstream) = (store.url().expect("a URL"), upstream.expect("a port"));
    let start = || {
        let folder = folder(&upstream);
        let key_file = folder.path().join("master.key");
        std::fs::write(&key_file, [7; 32]).expect("written");
        let variables = [
            ("NEURALHUB__STORE__URL", url.as_str()),
            ("NEURALHUB__SECURITY__MASTER_KEY_FILE", key_file.to_str().expect("UTF-8")),
            ("NEURALHUB__ENGINE__LEASE_MS", "1000"),
        ];
        TestHub::start_with(folder, &variables)
    };
    let first = start();
    let on_first = client(&first);
    upstream.reply(Reply::Silent);
    let steps = json!([{"id": "wait", "uses": "signal", "with": {"name": "go"}}]);
    post(&on_first, "/v1/workflows", &json!({"id": "waits", "name": "Waits", "steps": steps}));
    post(&on_first, "/v1/run", &json!({"target": "waits", "type": "workflow", "async": true}));
    post(
        &on_first,
        "/v1/run",
        &json!({"target": "agent_default", "type": "agent", "async": true, "input": {"goal": "Hello!"}}),
    );
    until(&on_first, "neuralhub_runs_unfinished{state=\"waiting\"}", 1.0);
    let text = until(&on_first, "neuralhub_lease_renewals_total{outcome=\"renewed\"}", 1.0);
    assert_eq!(value(&text, "neuralhub_runs_unfinished{state=\"running\"}"), 1.0, "{text}");
    let left = value(&text, "neuralhub_lease_seconds_left");
    assert!(left > 0.0 && left <= 1.0, "{left}");

    drop(first);
    let second = start();
    let address = second.url.trim_start_matches("http://").parse().expect("an address");
    let on_second = Client { address, key: on_first.key };
    until(&on_second, "neuralhub_runs_taken_over_total", 1.0);
    let text = until(&on_second, "neuralhub_runs_finished_total{state=\"success\"}", 1.0);
    assert_eq!(value(&text, "neuralhub_runs_unfinished{state=\"waiting\"}"), 1.0, "{text}");
}

/// Asks again until the series has come to `least`.
fn until(client: &Client, series: &str, least: f64) -> String {
    let begun = std::time::Instant::now();
    loop {
        let text = metrics(client);
        if text.contains(series) && value(&text, series) >= least {
            return text;
        }
        assert!(begun.elapsed().as_secs() < 60, "{series} never came to {least}:\n{text}");
    }
}
