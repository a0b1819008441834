//! Every call's tokens and money reach the ledger, once.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::TryFutureExt;
use nh_models::{ModelError, Models, ModelsSetup, ProviderKind, UsageSink};
use nh_testkit::upstream::{Part, Reply, Upstream, chunk};
use nh_testkit::{FixedClock, SeededIds, TestStore};
use nh_types::Timestamp;
use nh_types::model::Usage;
use serde_json::{Value, json};

use crate::harness::{Hub, caller, chunks, hello, hello_streamed, hub, hub_of, object, provider};

fn answer(usage: Value) -> Reply {
    Reply::json(
        200,
        &json!({"choices": [{"message": {"content": "four byte words"}, "finish_reason": "stop"}], "usage": usage}),
    )
}

fn stream(usage_in: impl Fn(Vec<Value>) -> Vec<Value>) -> Reply {
    Reply::chunks(&usage_in(vec![
        chunk(json!({"role": "assistant", "content": ""}), None),
        chunk(json!({"content": "twelve bytes"}), None),
        chunk(json!({}), Some("stop")),
    ]))
    .done()
}

fn used() -> Value {
    json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 140,
        "prompt_tokens_details": {"cached_tokens": 40}, "cost": 0.5})
}

#[tokio::test]
async fn tokens_and_cost_are_recorded_with_their_account() {
    let (mut hub, upstream) = hub_of(ProviderKind::Openai).await;
    upstream.reply(answer(used()));
    hub.chat(hello("priced")).await.expect("an answer");
    let row = hub.rows.next_row().await.expect("a row");
    assert_eq!((row.provider.as_str(), row.model.as_str(), row.key_id), ("mock", "priced", Some(42)));
    assert_eq!(row.workspace_id, caller().workspace_id);
    assert_eq!(row.at.to_string(), "2026-02-06T12:00:00.000Z");
    // The 30 tokens that only the total shows are reasoning, and billed.
    assert_eq!((row.usage.input_tokens, row.usage.output_tokens), (100, 40));
    assert_eq!((row.usage.cached_tokens, row.usage.reasoning_tokens), (40, 30));
    let cost = row.usage.cost_usd.expect("a cost");
    assert!((cost - (100.0 * 2.0 + 40.0 * 10.0) / 1e6).abs() < 1e-12);
    assert!(!row.estimated);
}

#[tokio::test]
async fn openrouters_own_cost_wins_and_an_unknown_price_is_no_price() {
    let (mut hub, upstream) = hub_of(ProviderKind::Openrouter).await;
    upstream.reply(answer(used()));
    hub.chat(hello("priced")).await.expect("an answer");
    assert_eq!(hub.rows.next_row().await.expect("a row").usage.cost_usd, Some(0.5));
    hub.chat(hello("mock-1")).await.expect("an answer");
    assert_eq!(hub.rows.next_row().await.expect("a row").usage.cost_usd, None);
}

#[tokio::test]
async fn streams_are_billed_wherever_the_usage_stands() {
    let at_the_end = |mut chunks: Vec<Value>| {
        chunks.push(json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": used()}));
        chunks
    };
    let with_choices = |mut chunks: Vec<Value>| {
        chunks[2]["usage"] = used();
        chunks
    };
    let growing = |mut chunks: Vec<Value>| {
        chunks[0]["usage"] = json!({"prompt_tokens": 100, "completion_tokens": 0, "total_tokens": 100});
        chunks[1]["usage"] = json!({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105});
        chunks[2]["usage"] = used();
        chunks
    };
    for reply in [stream(at_the_end), stream(with_choices), stream(growing)] {
        let (mut hub, upstream) = hub_of(ProviderKind::Openai).await;
        upstream.reply(reply);
        let mut body = hello_streamed("priced");
        body["stream_options"] = json!({"include_usage": true});
        let stream = hub.stream(body).await.expect("a stream");
        assert_eq!(stream.matches("\"usage\"").count(), 1, "{stream}");
        let row = hub.rows.next_row().await.expect("a row");
        assert_eq!((row.usage.input_tokens, row.usage.output_tokens, row.estimated), (100, 40, false));
    }
}

#[tokio::test]
async fn what_the_provider_does_not_say_is_estimated_and_marked() {
    let (mut hub, upstream) = hub_of(ProviderKind::Openai).await;
    upstream.reply(stream(|chunks| chunks));
    let mut body = hello_streamed("priced");
    body["stream_options"] = json!({"include_usage": true});
    let text = hub.stream(body).await.expect("a stream");
    assert!(text.contains("\"estimated\":true"));
    let row = hub.rows.next_row().await.expect("a row");
    assert!(row.estimated && row.usage.input_tokens > 0);
    assert_eq!(row.usage.output_tokens, 3);
    assert!(row.usage.cost_usd.is_some_and(|cost| cost > 0.0));
    // A cut stream is billed too.
    upstream.reply(Reply::chunks(&[chunk(json!({"content": "twelve bytes"}), None)]).then(Part::Cut));
    hub.stream(hello_streamed("priced")).await.expect("a stream");
    let row = hub.rows.next_row().await.expect("a row");
    assert!(row.estimated && row.usage.output_tokens >= 3);
}

#[tokio::test]
async fn refused_calls_cost_nothing_and_abandoned_ones_what_they_used() {
    let (mut hub, upstream) = hub_of(ProviderKind::Openai).await;
    for reply in [
        Reply::error(400, "x", "x"),
        Reply::error(429, "x", "x").with_header("retry-after", "9"),
        Reply::json(200, &json!({"error": {"code": 500}})),
    ] {
        upstream.reply(reply);
        hub.chat(hello("priced")).await.expect_err("an error");
    }
    upstream.reply(Reply::Silent);
    let models = hub.models.clone();
    let mut call = Box::pin(async move { models.chat(&caller(), Cow::Owned(object(hello("priced")))).await });
    // Until the provider has it.
    while upstream.calls().len() < 4 {
        assert!(futures_util::poll!(&mut call).is_pending());
        tokio::task::yield_now().await;
    }
    drop(call);
    let row = hub.rows.next_row().await.expect("a row");
    assert!(row.estimated && row.usage.input_tokens > 0 && row.usage.output_tokens == 0);
    drop(hub.models);
    assert!(hub.rows.next_row().await.is_none(), "the refused calls must not be billed");
}

#[tokio::test]
async fn when_the_ledger_is_full_no_call_is_begun() {
    let upstream = Upstream::start().await.expect("a port");
    let (usage, writer) = UsageSink::new(1);
    let models = Models::new(ModelsSetup {
        workspace_limits: Default::default(),
        cache: None,
        own: None,
        aliases: Vec::new(),
        local: None,
        providers: vec![provider("mock", ProviderKind::Openai, &upstream.base_url())],
        default_model: None,
        http: nh_http::Outbound::operator().expect("a client"),
        clock: Arc::new(FixedClock::default()),
        ids: Arc::new(SeededIds::new(1)),
        usage,
    });
    models.chat(&caller(), Cow::Owned(object(hello("priced")))).await.expect("an answer");
    drop(writer);
    let error = models.chat(&caller(), Cow::Owned(object(hello("priced")))).await.expect_err("an error");
    assert_eq!(error, ModelError::Overloaded);
    assert_eq!(upstream.calls().len(), 1);
}

#[tokio::test]
async fn a_row_that_cannot_be_kept_takes_no_other_with_it() {
    let (store, hub) = (TestStore::sqlite().await, hub(vec![]));
    let Hub { models, rows, .. } = hub;
    let mut odd = caller();
    odd.agent = Some("no text for a store: \0".to_owned());
    let good = caller();
    // All of them are one batch, as nobody writes yet.
    for account in [&good, &odd, &good, &good, &odd, &good, &good] {
        let body = object(hello("neuralhub/offline"));
        models.chat(account, Cow::Owned(body)).await.expect("an answer");
    }
    drop(models);
    rows.run(store.store().clone()).await;
    let totals = nh_store::usage::totals(store.store(), &good.workspace_id, Timestamp::default());
    assert_eq!(totals.await.expect("totals")[0].calls, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_holds_every_call_after_a_flush() {
    let store = TestStore::sqlite().await;
    let upstream = Upstream::start().await.expect("a port");
    let (usage, writer) = UsageSink::new(16);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(writer.run(store.store().clone()));
    let models = Models::new(ModelsSetup {
        workspace_limits: Default::default(),
        cache: None,
        own: None,
        aliases: Vec::new(),
        local: None,
        providers: vec![provider("mock", ProviderKind::Openai, &upstream.base_url())],
        default_model: None,
        http: nh_http::Outbound::operator().expect("a client"),
        clock: Arc::new(FixedClock::default()),
        ids: Arc::new(SeededIds::new(1)),
        usage: usage.clone(),
    });
    let account = caller();
    // More at once than the ledger has places: they wait, none is lost.
    let calls = (0..200)
        .map(|_| models.chat(&account, Cow::Owned(object(hello("priced")))).map_ok(|answer| answer.usage));
    let used = futures_util::future::try_join_all(calls).await.expect("answers");
    usage.flush().await;
    let totals = nh_store::usage::totals(store.store(), &caller().workspace_id, Timestamp::default())
        .await
        .expect("totals");
    assert_eq!((totals.len(), totals[0].calls), (1, 200));
    let sum = used.into_iter().fold(Usage::NONE, Usage::plus);
    assert_eq!(totals[0].usage.input_tokens, sum.input_tokens);
    assert_eq!(totals[0].usage.input_tokens, 200 * 9);
    let (billed, expected) = (totals[0].usage.cost_usd.expect("a cost"), sum.cost_usd.expect("a cost"));
    assert!((billed - expected).abs() < 1e-9);
    drop((models, usage));
    assert!(tasks.join_next().await.is_some_and(|ended| ended.is_ok()), "the writer ends with its sinks");
}

#[tokio::test]
async fn answers_tell_what_they_cost() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    let answer = hub.chat(hello("priced")).await.expect("an answer");
    let cost = |usage: &Value| usage["cost"].as_f64().expect("a cost");
    assert!((cost(&answer["usage"]) - (9.0 * 2.0 + 2.0 * 10.0) / 1e6).abs() < 1e-12, "{answer}");
    let mut body = hello_streamed("priced");
    body["stream_options"] = json!({"include_usage": true});
    let stream = hub.stream(body).await.expect("a stream");
    let last = chunks(&stream).pop().expect("a chunk");
    assert!(cost(&last["usage"]) > 0.0, "{last}");
    // Nobody knows this one's price.
    let answer = hub.chat(hello("mock-1")).await.expect("an answer");
    assert!(answer["usage"].get("cost").is_none(), "{answer}");
    assert_eq!(upstream.calls().len(), 3);
}
