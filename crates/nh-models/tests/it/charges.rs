//! Calls that are charged to a budget: what they hold while they are under way,
//! and that they let go of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use nh_http::{Guard, HttpSettings, Outbound, Resolve, Resolving};
use nh_models::{
    Account, Caller, Charge, Ledger, ModelError, Models, ModelsSetup, ProviderKind, UsageSink, UsageWriter,
};
use nh_store::memory::{Fate, Faults, Memory, Moment};
use nh_store::{Store, ledger, usage};
use nh_testkit::upstream::{Part, Reply, Upstream, chunk};
use nh_testkit::{FixedClock, SeededIds, TestStore};
use nh_types::Timestamp;
use nh_types::budget::Budget;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{caller, hello, object, provider};

struct Charged {
    models: Models,
    ledger: Ledger,
    store: TestStore,
    upstream: Upstream,
}

impl Charged {
    async fn new() -> (Self, UsageWriter) {
        Self::by(Outbound::operator().expect("a client"), None).await
    }

    /// With a provider at `base_url`, or at the mock upstream.
    async fn by(http: Outbound, base_url: Option<&str>) -> (Self, UsageWriter) {
        let (store, upstream) = (TestStore::memory().await, Upstream::start().await.expect("a port"));
        let base_url = base_url.map_or_else(|| upstream.base_url(), str::to_owned);
        let (clock, ids) = (Arc::new(FixedClock::default()), Arc::new(SeededIds::new(7)));
        let (sink, writer) = UsageSink::new(64);
        let models = Models::new(ModelsSetup {
            workspace_limits: Default::default(),
            cache: None,
            own: None,
            aliases: Vec::new(),
            local: None,
            providers: vec![provider("mock", ProviderKind::Openai, &base_url)],
            default_model: None,
            http,
            clock: clock.clone(),
            ids: ids.clone(),
            usage: sink.clone(),
        });
        let ledger = Ledger::new(store.store().clone(), clock, ids, sink, Default::default());
        (Self { models, ledger, store, upstream }, writer)
    }

    fn charge(&self, id: &str, budget: Budget) -> Charge {
        Charge {
            is_of_many: false,
            ledger: self.ledger.clone(),
            workspace_id: caller().workspace_id,
            id: id.to_owned(),
            accounts: vec![Account::of_run(uuid(), budget)],
            patience: Duration::from_secs(5),
        }
    }

    async fn ask(&self, budget: Budget, body: Value) -> Result<(), ModelError> {
        let caller = Caller { charge: Some(self.charge("asked", budget)), ..caller() };
        self.models.chat(&caller, Cow::Owned(object(body))).await.map(drop)
    }

    /// What was spent, once all is written.
    async fn settled(&self, writer: UsageWriter) -> ledger::Amount {
        let mut writing = JoinSet::new();
        writing.spawn(writer.run(self.store.store().clone()));
        self.models.usage().flush().await;
        self.spent().await
    }

    async fn spent(&self) -> ledger::Amount {
        let account = ledger::run_account(uuid());
        ledger::spent(self.store.store(), &caller().workspace_id, &account).await.expect("readable")
    }
}

fn uuid() -> nh_types::RunId {
    "01970000-0000-7000-8000-000000000001".parse().expect("an id")
}

fn steps(most: i64) -> Budget {
    Budget { max_steps: Some(most), ..Budget::default() }
}

pub(crate) fn hello_with(more: Value) -> Value {
    let mut body = hello("priced");
    body.as_object_mut().expect("an object").extend(object(more));
    body
}

#[tokio::test]
async fn a_charged_call_bounds_its_answer_by_one_field_only() {
    let (hub, _writer) = Charged::new().await;
    let tokens = Budget { max_tokens: Some(50_000), ..Budget::default() };
    let both = json!({"max_completion_tokens": 16, "max_tokens": 200_000, "n": 2.0});
    for more in [both, json!({"max_tokens": 1e3, "max_completion_tokens": null}), json!({})] {
        hub.ask(tokens, hello_with(more)).await.expect("an answer");
    }
    let sent: Vec<Value> = hub.upstream.calls().into_iter().map(|call| call.body).collect();
    for (body, granted) in sent.iter().zip([16, 1_000, 4_096]) {
        assert_eq!(
            (&body["max_tokens"], body.get("max_completion_tokens")),
            (&json!(granted), None),
            "{body}"
        );
    }
    assert_eq!((&sent[0]["n"], sent[1].get("n")), (&json!(2), None));
    // Nobody charges for this one.
    let more = json!({"max_completion_tokens": 16, "max_tokens": 200_000, "n": 0});
    hub.models.chat(&caller(), Cow::Owned(object(hello_with(more)))).await.expect("an answer");
    let body = &hub.upstream.calls()[3].body;
    assert_eq!((&body["max_completion_tokens"], &body["max_tokens"]), (&json!(16), &json!(200_000)));
    assert_eq!(body["n"], 0);
}

#[tokio::test]
async fn a_charged_calls_numbers_must_be_whole() {
    let (hub, mut writer) = Charged::new().await;
    for field in ["max_completion_tokens", "max_tokens", "n"] {
        for bad in [json!(0), json!(-5), json!(2.5), json!("16"), json!([1]), json!(true), json!(-1e30)] {
            let error = hub.ask(steps(9), hello_with(json!({field: bad}))).await.expect_err("refused");
            let ModelError::Invalid { message, param } = error else { panic!("{error}") };
            assert_eq!(param, field);
            assert!(message.contains(&bad.to_string()), "{message}");
        }
    }
    // Sums of what is reserved must fit into numbers.
    for bad in [json!(129), json!(i64::MAX), json!(1e30)] {
        let error = hub.ask(steps(9), hello_with(json!({"n": bad}))).await.expect_err("refused");
        let ModelError::Invalid { message, param } = error else { panic!("{error}") };
        assert!(param == "n" && message.contains("from 1 to 128"), "{message}");
    }
    assert!(hub.upstream.calls().is_empty());
    drop((hub.models, hub.ledger));
    assert!(writer.next_row().await.is_none(), "what was never sent is not billed");
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_waits_for_its_budget_used_nothing() {
    let (hub, mut writer) = Charged::new().await;
    let held = hub.charge("other", steps(1)).reserve_step().await.expect("a step");
    tokio::time::pause();
    let asked = tokio::time::timeout(Duration::from_secs(2), hub.ask(steps(1), hello("priced"))).await;
    asked.expect_err("it still waits");
    assert!(hub.upstream.calls().is_empty());
    drop((held, hub.models, hub.ledger));
    assert!(writer.next_row().await.is_none());
}

#[tokio::test]
async fn what_was_reserved_for_nobody_is_given_back() {
    let (hub, writer) = Charged::new().await;
    {
        let charge = hub.charge("gone", steps(1));
        let mut reserving = Box::pin(charge.reserve_step());
        // The write is queued, and nobody waits for its answer.
        assert!(futures_util::poll!(&mut reserving).is_pending());
    }
    let mut writing = JoinSet::new();
    writing.spawn(writer.run(hub.store.store().clone()));
    hub.models.usage().flush().await;
    let next = Charge { patience: Duration::ZERO, ..hub.charge("next", steps(1)) };
    drop(next.reserve_step().await.expect("nothing is held"));
    hub.models.usage().flush().await;
    assert_eq!(hub.spent().await.steps, 1, "a step that was begun counts when it is dropped");
    let over = Charge { patience: Duration::ZERO, ..hub.charge("over", steps(1)) };
    assert!(matches!(over.reserve_step().await.map(drop), Err(ModelError::BudgetExceeded { .. })));
}

/// The first commit never ends.
#[derive(Default)]
struct HangsOnce(AtomicBool);

impl Faults for HangsOnce {
    fn at(&self, moment: Moment) -> Fate {
        match moment {
            Moment::BeforeCommit if !self.0.swap(true, Ordering::SeqCst) => Fate::Hang,
            _ => Fate::GoOn,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_in_time_is_asked_again() {
    let clock = Arc::new(FixedClock::default());
    let memory = Memory::new(clock.clone(), false).expect("rows");
    let store = Store::open_memory(&memory, Arc::new(HangsOnce::default())).await.expect("a store");
    let (sink, writer) = UsageSink::new(4);
    let mut writing = JoinSet::new();
    writing.spawn(writer.run(store.clone()));
    let models = Models::new(ModelsSetup {
        workspace_limits: Default::default(),
        cache: None,
        own: None,
        aliases: Vec::new(),
        local: None,
        providers: Vec::new(),
        default_model: None,
        http: nh_http::Outbound::operator().expect("a client"),
        clock,
        ids: Arc::new(SeededIds::new(1)),
        usage: sink.clone(),
    });
    models.chat(&caller(), Cow::Owned(object(hello("neuralhub/offline")))).await.expect("an answer");
    sink.flush().await;
    let totals = usage::totals(&store, &caller().workspace_id, Timestamp::default()).await.expect("totals");
    assert_eq!(totals.iter().map(|total| total.calls).sum::<i64>(), 1);
}

fn stops(more: &[Value]) -> Reply {
    let mut all =
        vec![chunk(json!({"role": "assistant", "content": ""}), None), chunk(json!({"content": "Hi"}), None)];
    all.extend_from_slice(more);
    Reply::chunks(&all)
}

fn with_usage(mut last: Value, output_tokens: u64) -> Value {
    last["usage"] =
        json!({"prompt_tokens": 7, "completion_tokens": output_tokens, "total_tokens": 7 + output_tokens});
    last
}

/// What a stream cost the budget of which so many frames are read.
async fn spent_by_stream(reply: Reply, frames: usize) -> ledger::Amount {
    let (hub, writer) = Charged::new().await;
    hub.upstream.reply(reply);
    let charge = hub.charge("streamed", Budget { max_tokens: Some(50_000), ..Budget::default() });
    let caller = Caller { charge: Some(charge), ..caller() };
    let body = hello_with(json!({"stream": true, "max_tokens": 1_000}));
    let stream = hub.models.chat_stream(&caller, object(body)).await.expect("a stream");
    let mut read = String::new();
    let mut stream = Box::pin(stream.take_while(|bytes| {
        read.push_str(&String::from_utf8_lossy(bytes));
        std::future::ready(read.matches("data: ").count() < frames)
    }));
    while stream.next().await.is_some() {}
    drop(stream);
    hub.settled(writer).await
}

#[tokio::test]
async fn a_call_of_which_the_provider_told_no_count_costs_what_was_reserved() {
    let whole =
        Reply::json(200, &json!({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}));
    let finished = chunk(json!({}), Some("stop"));
    // The hello may be some ten tokens.
    for (name, reply, tokens) in [
        ("no JSON", Reply::Whole(200, vec![], "<html>".to_owned()), 1_000..1_050),
        ("no choices", Reply::json(200, &json!({"choices": []})), 1_000..1_050),
        ("refused", Reply::error(400, "bad", "no such field"), 0..1),
        ("whole without usage", whole, 3..50),
    ] {
        let (hub, writer) = Charged::new().await;
        hub.upstream.reply(reply);
        let budget = Budget { max_tokens: Some(50_000), ..Budget::default() };
        let _answer = hub.ask(budget, hello_with(json!({"max_tokens": 1_000}))).await;
        let spent = hub.settled(writer).await;
        assert!(tokens.contains(&spent.tokens), "{name}: {spent:?}");
    }
    let hidden = [finished.clone()];
    let begun = [with_usage(chunk(json!({"content": "!"}), None), 1)];
    let counted = [with_usage(finished.clone(), 300)];
    for (name, reply, frames, tokens) in [
        ("left", stops(&[]).then(Part::Hang), 2, 1_000..1_050),
        ("left at its end", stops(&hidden).then(Part::Hang), 3, 1_000..1_050),
        ("left while it was counted", stops(&begun).then(Part::Hang), 3, 1_000..1_050),
        ("cut", stops(&[]).then(Part::Cut), usize::MAX, 1_000..1_050),
        ("cut while it was counted", stops(&begun).then(Part::Cut), usize::MAX, 1_000..1_050),
        ("left when it was counted", stops(&counted).then(Part::Hang), 3, 307..308),
        ("cut when it was counted", stops(&counted).then(Part::Cut), usize::MAX, 307..308),
        ("whole without usage", stops(&hidden).done(), usize::MAX, 3..50),
    ] {
        let spent = spent_by_stream(reply, frames).await;
        assert!(tokens.contains(&spent.tokens) && spent.steps == 1, "{name}: {spent:?}");
        assert!(spent.picodollars >= spent.tokens * 2_000_000, "{name}: {spent:?}");
    }
}

/// Finds no name, and never says so.
struct Silence;

impl Resolve for Silence {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolving<'a> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_sent_costs_nothing() {
    let guard = Guard::new(&HttpSettings::default(), Vec::new());
    let http = Outbound::guarded_with(guard, Arc::new(Silence)).expect("a client");
    let (hub, writer) = Charged::by(http, Some("http://slow.example/v1")).await;
    let budget = Budget { max_tokens: Some(50_000), ..Budget::default() };
    let error = hub.ask(budget, hello("priced")).await.expect_err("it is never found");
    assert!(matches!(error, ModelError::TimedOut { was_sent: false, .. }), "{error}");
    assert_eq!(hub.settled(writer).await, ledger::Amount::default());
}
