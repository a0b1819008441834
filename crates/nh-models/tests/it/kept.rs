//! Answers that are kept: what keeping them may take.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use nh_models::{
    CacheSettings, CacheTold, CacheUse, Caller, Models, ModelsSetup, ProviderKind, ResponseCache, UsageSink,
    UsageWriter,
};
use nh_store::memory::{Fate, Faults, Memory, Moment};
use nh_store::workspaces::Workspace;
use nh_store::{Store, workspaces};
use nh_testkit::upstream::{Reply, Upstream, chunk};
use nh_testkit::{FixedClock, SeededIds, TestStore};
use nh_types::Clock;
use nh_types::agent::AgentDefinition;
use serde_json::{Value, json};

use crate::harness::{caller, hello, hello_streamed, object, provider};

fn keeping(store: &Store, base_url: &str) -> (Models, UsageWriter) {
    let (clock, (usage, rows)) = (Arc::new(FixedClock::default()), UsageSink::new(64));
    let models = Models::new(ModelsSetup {
        own: None,
        workspace_limits: Default::default(),
        cache: Some(ResponseCache::new(store.clone(), clock.clone(), CacheSettings::default())),
        aliases: Vec::new(),
        local: None,
        providers: vec![provider("mock", ProviderKind::Openai, base_url)],
        default_model: None,
        http: nh_http::Outbound::operator().expect("a client"),
        clock,
        ids: Arc::new(SeededIds::new(7)),
        usage,
    });
    (models, rows)
}

fn who_keeps() -> Caller {
    Caller { cache: CacheUse::of(Some(60)), ..caller() }
}

/// All of a stream, and whether it was a kept answer.
async fn stream(models: &Models, body: Value) -> (Vec<u8>, Option<CacheTold>) {
    let caller = who_keeps();
    let stream = models.chat_stream(&caller, object(body)).await.expect("a stream");
    (stream.map(|bytes| bytes.to_vec()).concat().await, caller.cache.told())
}

/// A store that answers nothing.
struct Stuck;

impl Faults for Stuck {
    fn at(&self, moment: Moment) -> Fate {
        match moment {
            Moment::Read | Moment::BeforeCommit => Fate::Hang,
            _ => Fate::GoOn,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_stuck_keeps_no_answer_waiting() {
    let memory = Memory::new(Arc::new(FixedClock::default()), false).expect("rows");
    let store = Store::open_memory(&memory, Arc::new(Stuck)).await.expect("a store");
    let (models, _rows) = keeping(&store, "http://127.0.0.1:9");
    let asked = tokio::time::Instant::now();
    let body = Cow::Owned(object(hello("neuralhub/offline")));
    models.chat(&who_keeps(), body).await.expect("an answer");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    let asked = tokio::time::Instant::now();
    let (text, told) = stream(&models, hello_streamed("neuralhub/offline")).await;
    assert!(text.ends_with(b"data: [DONE]\n\n") && told == Some(CacheTold::Miss));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_stream_that_is_too_long_to_be_kept_is_not_gathered() {
    let (store, upstream) = (TestStore::memory().await, Upstream::start().await.expect("a port"));
    let workspace = Workspace {
        id: caller().workspace_id,
        name: "default".to_owned(),
        created_at: FixedClock::default().now(),
    };
    let create = workspaces::Create { workspace, default_agent: AgentDefinition::default_agent() };
    store.store().write(create).await.expect("a workspace");
    let (models, _rows) = keeping(store.store(), &upstream.base_url());
    let ask = async || stream(&models, hello_streamed("priced")).await;
    let answer = |padding: usize| {
        let mut says = chunk(json!({"content": "x"}), None);
        says["choices"][0]["padding"] = json!(" ".repeat(padding));
        let mut all = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
        all.extend(std::iter::repeat_n(says, 18));
        all.push(chunk(json!({}), Some("stop")));
        Reply::chunks(&all).done()
    };
    // 18 MB for 18 letters, as only a provider that wants to do harm sends them.
    for padding in [1_000_000, 10] {
        upstream.reply(answer(padding));
        let (text, told) = ask().await;
        assert!(text.ends_with(b"data: [DONE]\n\n") && told == Some(CacheTold::Miss), "{padding}");
    }
    assert!(matches!(ask().await.1, Some(CacheTold::Hit(_))), "what is short enough is kept");
    assert_eq!(upstream.calls().len(), 2);
}
