//! What is reserved ahead, for calls that follow each other closely.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use nh_http::Outbound;
use nh_models::{
    Account, Caller, Charge, Ledger, ModelError, Models, ModelsSetup, ProviderKind, UsageSink, UsageWriter,
};
use nh_store::ledger::{self, Amount, Bid, Limits, Reserve, Reserved, Settle};
use nh_testkit::upstream::{Part, Reply, Upstream, chunk};
use nh_testkit::{FixedClock, SeededIds, TestStore};
use nh_types::Clock;
use serde_json::json;

use crate::charges::hello_with;
use crate::harness::{caller, hello, hello_streamed, object, provider};

const KEY: i64 = 42;
/// A thousand dollars, in picodollars.
const LIMIT: i64 = 1_000_000_000_000_000;
/// What no call of these tests may cost more than.
const ONE_CALL: i64 = 50_000_000_000;

struct Busy {
    models: Models,
    ledger: Ledger,
    store: TestStore,
    upstream: Upstream,
    clock: Arc<FixedClock>,
}

/// With a provider whose every call takes 9 tokens in and some out.
async fn busy() -> (Busy, UsageWriter) {
    let (store, upstream) = (TestStore::sqlite().await, Upstream::start().await.expect("a port"));
    let (clock, ids) = (Arc::new(FixedClock::default()), Arc::new(SeededIds::new(7)));
    let (sink, writer) = UsageSink::new(4_096);
    let models = Models::new(ModelsSetup {
        workspace_limits: Default::default(),
        cache: None,
        own: None,
        aliases: Vec::new(),
        local: None,
        providers: vec![provider("mock", ProviderKind::Openai, &upstream.base_url())],
        default_model: None,
        http: Outbound::operator().expect("a client"),
        clock: clock.clone(),
        ids: ids.clone(),
        usage: sink.clone(),
    });
    let ledger = Ledger::new(store.store().clone(), clock.clone(), ids, sink, Default::default());
    (Busy { models, ledger, store, upstream, clock }, writer)
}

impl Busy {
    fn caller(&self, budget_usd: f64, number: usize) -> Caller {
        let now = self.clock.now();
        let charge = Charge {
            ledger: self.ledger.clone(),
            workspace_id: caller().workspace_id,
            id: format!("call:{number}"),
            accounts: vec![Account::of_key(KEY, budget_usd, now)],
            patience: Duration::from_secs(5),
            is_of_many: true,
        };
        Caller { charge: Some(charge), ..caller() }
    }

    fn account(&self) -> String {
        ledger::key_account(KEY, self.clock.now())
    }

    async fn spent(&self) -> i64 {
        let spent = ledger::spent(self.store.store(), &caller().workspace_id, &self.account()).await;
        spent.expect("readable").picodollars
    }

    /// What is spent once all is written. Nothing is reserved any more then.
    async fn settled(self, writer: tokio::task::JoinSet<()>) -> i64 {
        let (account, store) = (self.account(), self.store);
        drop((self.models, self.ledger));
        writer.join_all().await;
        let spent = ledger::spent(store.store(), &caller().workspace_id, &account).await;
        let spent = spent.expect("readable").picodollars;
        assert!(would_fit(&store, &account, LIMIT - spent).await, "something is reserved still");
        spent
    }
}

/// Whether so much of [`LIMIT`] is neither spent nor reserved.
async fn would_fit(store: &TestStore, account: &str, wanted: i64) -> bool {
    let (workspace_id, accounts) = (caller().workspace_id, vec![account.to_owned()]);
    let limits = Limits { picodollars: Some(LIMIT), ..Limits::default() };
    let fixed = Amount { picodollars: wanted, ..Amount::default() };
    let reserve = Reserve {
        workspace_id: workspace_id.clone(),
        id: "whether".to_owned(),
        token: "whether".to_owned(),
        accounts: vec![(account.to_owned(), limits)],
        bid: Bid { fixed, per_unit: Amount::default(), least_units: 0, most_units: 0 },
        room: 1,
        now: FixedClock::default().now(),
        expires_at: FixedClock::default().now().plus_millis(1_000),
    };
    let fits = store.store().write(reserve).await.expect("written");
    let settle = Settle { workspace_id, token: "whether".to_owned(), accounts, cost: Amount::default() };
    store.store().write(settle).await.expect("written");
    matches!(fits, Reserved::Units(_))
}

fn writing(busy: &Busy, writer: UsageWriter) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(writer.run(busy.store.store().clone()));
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_calls_cost_is_the_same_as_if_each_had_been_reserved() {
    let (busy, writer) = busy().await;
    let writer = writing(&busy, writer);
    let mut cost = 0.0;
    for round in 0..40 {
        let callers: Vec<_> = (0..16).map(|number| busy.caller(1_000.0, round * 16 + number)).collect();
        let calls =
            callers.iter().map(|caller| busy.models.chat(caller, Cow::Owned(object(hello("priced")))));
        for answer in join_all(calls).await {
            cost += answer.expect("an answer").usage.cost_usd.expect("a cost");
        }
    }
    assert_eq!(busy.settled(writer).await, (cost * 1e12).round() as i64);
}

/// A hub that is stopped has written what its last calls cost, also where they were paid ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_at_the_end() {
    let (busy, writer) = busy().await;
    let writer = writing(&busy, writer);
    let mut cost = 0.0;
    for number in 0..64 {
        let body = Cow::Owned(object(hello("priced")));
        let answer = busy.models.chat(&busy.caller(1_000.0, number), body).await.expect("an answer");
        cost += answer.usage.cost_usd.expect("a cost");
    }
    busy.ledger.close().await;
    assert_eq!(busy.spent().await, (cost * 1e12).round() as i64);
    busy.settled(writer).await;
}

/// A budget for some of the calls lets some of them through, and is never overdrawn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_overdrawn() {
    let (busy, writer) = busy().await;
    let writer = writing(&busy, writer);
    const BUDGET_USD: f64 = 0.13;
    let mut made = 0;
    // Each costs about as much as it may cost. With fewer tokens no call is made.
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 16, "total_tokens": 25});
    let dear = json!({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": usage});
    let body = || Cow::Owned(object(hello_with(json!({"max_tokens": 16}))));
    for _ in 0..1_000 {
        busy.upstream.reply(Reply::json(200, &dear));
    }
    for round in 0..10 {
        let callers: Vec<_> = (0..100).map(|number| busy.caller(BUDGET_USD, round * 100 + number)).collect();
        let calls = callers.iter().map(|caller| busy.models.chat(caller, body()));
        for answer in join_all(calls).await {
            match answer {
                Ok(_) => made += 1,
                Err(error) => assert!(matches!(error, ModelError::BudgetExceeded { .. }), "{error}"),
            }
        }
    }
    assert_eq!(busy.upstream.calls().len(), made);
    let spent = busy.settled(writer).await;
    assert!((500..1_000).contains(&made), "{made} calls");
    assert!(spent <= (BUDGET_USD * 1e12) as i64, "{made} calls spent {spent}");
}

/// A long stream keeps its own part alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_used_is_given_back_while_calls_are_under_way() {
    let (busy, writer) = busy().await;
    let writer = writing(&busy, writer);
    for number in 0..64 {
        let body = Cow::Owned(object(hello("priced")));
        busy.models.chat(&busy.caller(1_000.0, number), body).await.expect("an answer");
    }
    busy.upstream.reply(Reply::chunks(&[chunk(json!({"content": "Hi"}), None)]).then(Part::Hang));
    let mut stream = busy
        .models
        .chat_stream(&busy.caller(1_000.0, 64), object(hello_streamed("priced")))
        .await
        .expect("one");
    stream.next().await.expect("its first bytes");
    let account = busy.account();
    while !would_fit(&busy.store, &account, LIMIT - busy.spent().await - ONE_CALL).await {
        tokio::task::yield_now().await;
    }
    let before = busy.spent().await;
    drop(stream);
    let spent = busy.settled(writer).await;
    assert!((1..=ONE_CALL).contains(&(spent - before)), "a stream that was left costs what was reserved");
}
