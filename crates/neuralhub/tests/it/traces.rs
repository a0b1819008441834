//! What an OpenTelemetry collector gets of a whole hub.

use nh_testkit::upstream::{Reply, Upstream};
use serde_json::{Value, json};

use crate::collector::{Collector, Told};
use crate::http::Client;
use crate::hub::TestHub;
use crate::metrics::{calls_calculate, client, folder, metrics, post, value};

const GOAL: &str = "How much is the confidential figure of 6 * 7?";
const KEY: &str = "sk-of-the-provider";

fn start(collector: &Collector, upstream: &Upstream, more: &[(&str, &str)]) -> TestHub {
    let endpoint = collector.endpoint();
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("NEURALHUB__PROVIDERS__0__API_KEY", KEY)];
    TestHub::start_with(folder(upstream), &[&variables, more].concat())
}

fn upstream() -> (tokio::runtime::Runtime, Upstream) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let upstream = runtime.block_on(Upstream::start()).expect("a port");
    (runtime, upstream)
}

fn run(client: &Client, headers: &[(&str, &str)], body: &Value) -> Value {
    let answer = client.post("/v1/run", headers, body).expect("answered");
    assert!(answer.status < 300, "{}", answer.body);
    answer.json()
}

fn agent(goal: &str) -> Value {
    json!({"target": "agent_default", "type": "agent", "input": {"goal": goal}})
}

fn trace_of(run: &Value) -> String {
    run["runId"].as_str().expect("an id").replace('-', "")
}

#[track_caller]
fn one<'s>(spans: &'s [Told], name: &str) -> &'s Told {
    let named: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let [one] = named.as_slice() else { panic!("not one `{name}`: {spans:#?}") };
    one
}

/// What holds for the spans of any run: one trace and one root, each parent is
/// there and around its children, and the run's id is on all of them.
#[track_caller]
fn check_trace(spans: &[Told], run_id: &str) {
    let roots: Vec<_> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{spans:#?}");
    assert_eq!(roots[0].id, run_id.replace('-', "")[16..]);
    for span in spans {
        assert_eq!(span.says("neuralhub.run.id"), Some(run_id), "{span:#?}");
        if !span.parent.is_empty() {
            let parent = spans.iter().find(|other| other.id == span.parent);
            let parent = parent.unwrap_or_else(|| panic!("its parent is not there: {span:#?} {spans:#?}"));
            assert!(parent.times.0 <= span.times.0, "it begins before its parent: {span:#?} {parent:#?}");
        }
        assert!(span.times.0 <= span.times.1, "{span:#?}");
    }
}

#[test]
fn an_agents_run_is_one_trace_which_is_its_id() {
    let (collector, (_runtime, upstream)) = (Collector::start(), upstream());
    let secret =
        [("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=a%20secret"), ("OTEL_SERVICE_NAME", "my-hub")];
    let hub = start(&collector, &upstream, &secret);
    let client = client(&hub);
    upstream.reply(calls_calculate());
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let run = run(&client, &[("traceparent", traceparent)], &agent(GOAL));
    let (run_id, trace) = (run["runId"].as_str().expect("an id"), trace_of(&run));
    assert_eq!(run["result"], json!("Hello!"), "{run}");

    // A stop sends what waits.
    assert_eq!(hub.stop().0, Some(0));
    let all = collector.spans();
    let spans: Vec<Told> = all.iter().filter(|span| span.trace == trace).cloned().collect();
    check_trace(&spans, run_id);
    let mut names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "chat mock-1",
        "chat mock-1",
        "drive",
        "execute_tool calculate",
        "invoke_agent Default agent",
        "step model",
        "step model",
        "step tool",
    ];
    assert_eq!(names, expected);

    let root = one(&spans, "invoke_agent Default agent");
    let drive = one(&spans, "drive");
    let tool = one(&spans, "execute_tool calculate");
    let chat = spans.iter().find(|span| span.says("gen_ai.response.finish_reasons") == Some("[tool_calls]"));
    let chat = chat.expect("the first call");
    assert_eq!(drive.parent, root.id);
    let step_of = |span: &Told| spans.iter().find(|other| other.id == span.parent).expect("there").clone();
    assert_eq!((step_of(tool).name.as_str(), step_of(tool).parent), ("step tool", drive.id.clone()));
    assert_eq!(step_of(chat).says("neuralhub.step.id"), Some("model:1"));
    let said = |span: &Told, expected: &[(&str, &str)]| {
        for (attribute, value) in expected {
            assert_eq!(span.says(attribute), Some(*value), "{attribute} of {span:#?}");
        }
    };
    said(
        root,
        &[
            ("gen_ai.operation.name", "invoke_agent"),
            ("gen_ai.agent.id", "agent_default"),
            ("gen_ai.agent.name", "Default agent"),
            ("gen_ai.usage.input_tokens", "1009"),
            ("neuralhub.run.state", "SUCCESS"),
        ],
    );
    let port = upstream.base_url().rsplit_once(':').expect("a port").1.trim_end_matches("/v1").to_owned();
    said(
        chat,
        &[
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "mock"),
            ("gen_ai.request.model", "mock-1"),
            ("gen_ai.response.model", "mock-1-2026"),
            ("gen_ai.response.id", "chatcmpl-1"),
            ("gen_ai.usage.input_tokens", "1000"),
            ("gen_ai.usage.output_tokens", "50"),
            ("gen_ai.usage.cache_read.input_tokens", "400"),
            ("gen_ai.usage.reasoning.output_tokens", "20"),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
        ],
    );
    assert!(chat.is_client && !chat.has_failed, "{chat:#?}");
    said(
        tool,
        &[
            ("gen_ai.operation.name", "execute_tool"),
            ("gen_ai.tool.name", "calculate"),
            ("gen_ai.tool.call.id", &format!("{run_id}:tool:1.1")),
        ],
    );

    let request = one(&all, "POST /v1/run");
    assert_eq!(
        (request.trace.as_str(), request.parent.as_str()),
        (&traceparent[3..35], &traceparent[36..52])
    );
    said(
        request,
        &[("http.route", "/v1/run"), ("http.response.status_code", "200"), ("neuralhub.run.id", run_id)],
    );
    assert!(drive.links.contains(&(request.trace.clone(), request.id.clone())), "{drive:#?}");

    for export in collector.exports() {
        let body = String::from_utf8_lossy(&export.body);
        let head = export.head.to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces ") && head.contains("x-collector-key: a secret"), "{head}");
        assert!(body.contains("my-hub"), "{body}");
        for secret in ["confidential", "6 * 7", "Hello!", KEY, &client.key, "a secret"] {
            assert!(!body.contains(secret), "`{secret}` is told: {body}");
        }
    }
    assert!(upstream.calls().iter().all(|call| !call.headers.contains_key("traceparent")));
}

#[test]
fn the_spans_of_a_run_come_together_after_a_kill() {
    let (collector, (_runtime, upstream)) = (Collector::start(), upstream());
    let hub = start(&collector, &upstream, &[]);
    let on_first = client(&hub);
    upstream.reply(calls_calculate());
    upstream.reply(Reply::Silent);
    let mut body = agent(GOAL);
    body["async"] = json!(true);
    let run = run(&on_first, &[], &body);
    let (run_id, trace) = (run["runId"].as_str().expect("an id").to_owned(), trace_of(&run));
    // What was under way is lost with the process, and what was over is told.
    collector.until(|span| span.trace == trace && span.name == "execute_tool calculate");
    let folder = hub.kill();
    let endpoint = collector.endpoint();
    let again = TestHub::start_with(folder, &[("NEURALHUB__TELEMETRY__OTLP_ENDPOINT", endpoint.as_str())]);
    let told = collector.until(|span| span.trace == trace && span.name.starts_with("invoke_agent"));
    assert_eq!(again.stop().0, Some(0));
    drop(told);

    let mut spans = collector.spans();
    spans.retain(|span| span.trace == trace);
    let root = one(&spans, "invoke_agent Default agent").clone();
    let second = one(&spans, "drive").clone();
    assert_eq!((root.id.as_str(), second.parent.as_str()), (&trace[16..], &trace[16..]));
    assert!(
        root.times.0 < second.times.0 && root.says("neuralhub.run.state") == Some("SUCCESS"),
        "{root:#?}"
    );
    assert!(spans.iter().all(|span| span.says("neuralhub.run.id") == Some(run_id.as_str())), "{spans:#?}");
    // The first call and the tool from the first process, the last call from the second.
    let steps: Vec<_> = spans.iter().filter_map(|span| span.says("neuralhub.step.id")).collect();
    assert_eq!(steps, ["model:1", "tool:1.1", "model:2"]);
    let last = spans.iter().find(|span| span.says("neuralhub.step.id") == Some("model:2")).expect("there");
    assert_eq!(last.parent, second.id);
}

#[test]
fn a_workflows_waits_and_the_runs_within_it_are_told() {
    let (collector, (_runtime, upstream)) = (Collector::start(), upstream());
    let hub = start(&collector, &upstream, &[]);
    let client = client(&hub);
    let steps = json!([
        {"id": "nap", "uses": "sleep", "with": {"seconds": 0.05}},
        {"id": "ask", "uses": "agent:agent_default", "with": {"goal": GOAL}, "needs": ["nap"]},
        {"id": "bad", "uses": "tool:calculate", "with": {"expression": "1 +"}, "needs": ["ask"]},
    ]);
    post(&client, "/v1/workflows", &json!({"id": "asks", "name": "Asks", "steps": steps}));
    let run = run(&client, &[], &json!({"target": "asks", "type": "workflow"}));
    let (run_id, trace) = (run["runId"].as_str().expect("an id"), trace_of(&run));
    assert_eq!(run["state"], json!("FAILED"), "{run}");
    assert_eq!(hub.stop().0, Some(0));

    let all = collector.spans();
    let of = |trace: &str| all.iter().filter(|span| span.trace == trace).cloned().collect::<Vec<_>>();
    let spans = of(&trace);
    check_trace(&spans, run_id);
    let root = one(&spans, "invoke_workflow Asks");
    assert!(root.has_failed && root.says("error.type").is_some(), "{root:#?}");
    let nap = one(&spans, "wait sleep");
    assert_eq!((nap.parent.as_str(), nap.says("neuralhub.step.id")), (root.id.as_str(), Some("nap")));
    assert!(nap.times.1 - nap.times.0 >= 50_000_000, "{nap:#?}");
    let failed = one(&spans, "execute_tool calculate");
    assert!(failed.has_failed && failed.says("error.type").is_some(), "{failed:#?}");

    let child = one(&spans, "wait run").links.first().expect("linked to its run").clone();
    let within = of(&child.0);
    let child_root = one(&within, "invoke_agent Default agent");
    assert_eq!(child_root.id, child.1);
    assert_eq!(child_root.links, [(trace.clone(), root.id.clone())], "linked back to the one that began it");
    let child_id = child_root.says("neuralhub.run.id").expect("an id").to_owned();
    check_trace(&within, &child_id);
    assert_eq!(child_id.replace('-', ""), child.0);
}

#[test]
fn a_call_without_a_run_is_in_the_trace_of_its_request() {
    let (collector, (_runtime, upstream)) = (Collector::start(), upstream());
    let hub = start(&collector, &upstream, &[]);
    let client = client(&hub);
    let hello = json!({"model": "mock-1", "stream": true, "messages": [{"role": "user", "content": GOAL}]});
    post(&client, "/v1/chat/completions", &hello);
    upstream.reply(Reply::error(429, "rate_limit_exceeded", "slow down").with_header("retry-after", "30"));
    let refused = client.post("/v1/chat/completions", &[], &hello).expect("answered");
    assert_eq!(refused.status, 429);
    let unsampled = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")];
    client.post("/v1/chat/completions", &unsampled, &hello).expect("answered");
    client.get("/v1/nothing/of-sk-secret?key=sk-secret", &[]).expect("answered");
    assert_eq!(hub.stop().0, Some(0));

    let spans = collector.spans();
    let chats: Vec<_> = spans.iter().filter(|span| span.name == "chat mock-1").collect();
    assert_eq!(chats.len(), 2, "its caller did not want the third: {spans:#?}");
    for chat in &chats {
        let request = spans.iter().find(|span| span.id == chat.parent).expect("its request");
        assert_eq!((request.name.as_str(), &request.trace), ("POST /v1/chat/completions", &chat.trace));
        assert_eq!(chat.says("gen_ai.request.stream"), Some("true"));
        assert_eq!(chat.says("neuralhub.run.id"), None);
    }
    assert!(chats[0].says("gen_ai.response.time_to_first_chunk").is_some() && !chats[0].has_failed);
    assert!(chats[1].says("error.type") == Some("rate_limited") && chats[1].has_failed, "{chats:#?}");
    assert!(
        collector.exports().iter().all(|export| !String::from_utf8_lossy(&export.body).contains("sk-secret"))
    );
    one(&spans, "GET");
}

#[test]
fn a_collector_that_is_down_is_told_of_once_and_harms_nothing() {
    let (_runtime, upstream) = upstream();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = format!("http://{}", taken.local_addr().expect("an address"));
    drop(taken);
    let hub = TestHub::start_with(folder(&upstream), &[("OTEL_EXPORTER_OTLP_ENDPOINT", nobody.as_str())]);
    let client = client(&hub);
    let lost = || {
        let text = metrics(&client);
        value(&text, "neuralhub_telemetry_spans_total{outcome=\"failed\"}")
    };
    let begun = std::time::Instant::now();
    let mut batches = 0;
    while batches < 2 {
        let before = lost();
        run(&client, &[], &agent("Hello!"));
        while lost() == before {
            assert!(begun.elapsed().as_secs() < 60, "nothing is given up");
        }
        batches += 1;
    }
    let log = hub.log();
    assert_eq!(log.matches("the collector did not take spans").count(), 1, "{log}");
    assert_eq!(hub.stop().0, Some(0));
}

#[test]
fn the_log_is_the_same_with_spans_and_without() {
    let (collector, (_runtime, upstream)) = (Collector::start(), upstream());
    let lines = |hub: TestHub| {
        run(&client(&hub), &[], &agent("Hello!"));
        let log = hub.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut lines: Vec<_> = lines
            .map(|line| (line["target"].clone(), line["message"].clone(), line.get("span").cloned()))
            .collect();
        lines.retain(|(target, ..)| target.as_str().is_some_and(|target| target.starts_with("n")));
        lines.sort_by_key(|line| format!("{line:?}"));
        lines
    };
    let level = [("NEURALHUB__LOG__LEVEL", "debug")];
    let without = lines(TestHub::start_with(folder(&upstream), &level));
    let with = lines(start(&collector, &upstream, &level));
    assert!(without.iter().all(|(.., span)| span.is_none()) && without.len() > 3, "{without:#?}");
    assert_eq!(without, with);
}
