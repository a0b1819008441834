//! The model of a workspace, and what happens while it changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nh_memory::{MemoryError, Remote};
use nh_testkit::{TestStore, each_engine};
use nh_types::{ErrorCode, WorkspaceId};
use tokio_util::sync::CancellationToken;

use crate::fixtures::{Hub, MODEL, Words};

const NEXT: &str = "fake/words-2048";

/// Runs the background work of a hub until `until` says so.
pub(crate) async fn while_kept(hub: &Hub, until: impl AsyncFnOnce()) {
    let stopping = CancellationToken::new();
    let remote = hub.remote.clone();
    let of = move |_: &WorkspaceId| Box::new(Shared(remote.clone())) as Box<dyn Remote>;
    let kept = nh_memory::keep(hub.memories.clone(), of, stopping.clone());
    let stopped = async {
        until().await;
        stopping.cancel();
    };
    tokio::join!(kept, stopped);
}

struct Shared(Arc<Words>);

impl Remote for Shared {
    fn embed<'a>(
        &'a self,
        model: &'a str,
        texts: Vec<String>,
    ) -> futures_util::future::BoxFuture<'a, Result<Vec<Vec<f32>>, nh_types::ApiError>> {
        self.0.embed(model, texts)
    }
}

pub(crate) async fn until_model_is(hub: &Hub, ws: &WorkspaceId, model: &str) {
    loop {
        let view = hub.memories.model_view(ws).await.expect("a view");
        if view.model == model && view.next.is_none() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

each_engine! {
    async fn all_are_embedded_anew_while_searches_go_on(store: TestStore) {
        let hub = Hub::new(store.store(), 1);
        let ws = hub.workspace("acme").await;
        for number in 0..100 {
            hub.add(&ws, &format!("memory word{number}")).await;
        }
        let view = hub.memories.change_model(hub.author(&ws), NEXT).await.expect("changed");
        assert_eq!((view.model.as_str(), view.dimensions), (MODEL, Some(4096)));
        assert_eq!(view.next.map(|next| (next.model, next.embedded)), Some((NEXT.to_owned(), 0)));
        assert_eq!(hub.best(&ws, "word42").await, "memory word42");
        while_kept(&hub, async || {
            hub.add(&ws, "added meanwhile").await;
            until_model_is(&hub, &ws, NEXT).await;
        }).await;
        let view = hub.memories.model_view(&ws).await.expect("a view");
        assert_eq!((view.dimensions, view.memories), (Some(2048), 101));
        assert_eq!(hub.best(&ws, "meanwhile").await, "added meanwhile");
        assert_eq!(hub.search(&ws, "memory", 100).await.len(), 100);
        // One that has not heard of it writes what searches go by.
        let late = Hub::new(&store.open_again().await, 3);
        late.add(&ws, "from elsewhere").await;
        assert_eq!(hub.best(&ws, "elsewhere").await, "from elsewhere");
    }

    async fn what_was_broken_off_goes_on(store: TestStore) {
        let hub = Hub::new(store.store(), 1);
        let ws = hub.workspace("acme").await;
        for number in 0..70 {
            hub.add(&ws, &format!("memory word{number}")).await;
        }
        hub.memories.change_model(hub.author(&ws), NEXT).await.expect("changed");
        let embedded = hub.remote.texts.load(Ordering::SeqCst);
        hub.remote.down_after.store(embedded + 40, Ordering::SeqCst);
        while_kept(&hub, async || loop {
            let view = hub.memories.model_view(&ws).await.expect("a view");
            if let Some(error) = view.next.expect("it goes on").error {
                assert!(error.contains("it is down"), "{error}");
                break;
            }
            tokio::task::yield_now().await;
        }).await;
        let next = hub.memories.model_view(&ws).await.expect("a view").next.expect("it goes on");
        assert_eq!(next.embedded, 64, "batches that were done stay so");
        hub.remote.down_after.store(0, Ordering::SeqCst);
        assert_eq!(hub.best(&ws, "word7").await, "memory word7");
        let before = hub.remote.texts.load(Ordering::SeqCst);
        while_kept(&hub, async || until_model_is(&hub, &ws, NEXT).await).await;
        let more = hub.remote.texts.load(Ordering::SeqCst) - before;
        assert!(more <= 8, "{more} texts were embedded for 6 that were left, and two probes");
        assert_eq!(hub.best(&ws, "word7").await, "memory word7");
    }

    async fn a_model_that_cannot_embed_is_refused(store: TestStore) {
        let hub = Hub::new(store.store(), 1);
        let ws = hub.workspace("acme").await;
        hub.add(&ws, "one").await;
        match hub.memories.change_model(hub.author(&ws), "nobody/has-it").await {
            Err(MemoryError::Refused(error)) => assert_eq!(error.code, ErrorCode::ModelNotFound),
            other => panic!("{other:?}"),
        }
        assert_eq!(hub.memories.model_view(&ws).await.expect("a view").next, None);
        hub.memories.change_model(hub.author(&ws), NEXT).await.expect("changed");
        hub.memories.change_model(hub.author(&ws), MODEL).await.expect("taken back");
        assert_eq!(hub.memories.model_view(&ws).await.expect("a view").next, None);
    }

    async fn a_search_without_its_model_finds_nothing_wrong(store: TestStore) {
        let hub = Hub::new(store.store(), 1);
        let ws = hub.workspace("acme").await;
        hub.add(&ws, "one").await;
        hub.remote.down_after.store(1, Ordering::SeqCst);
        let query = nh_memory::Query {
            text: "one".to_owned(), limit: 1, min_similarity: None, namespace: None, filter: None,
        };
        match hub.memories.search(hub.author(&ws), query).await {
            Err(MemoryError::Refused(error)) => {
                assert_eq!(error.code, ErrorCode::EmbedderUnavailable);
                assert!(error.message.contains(MODEL) && error.message.contains("it is down"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}
