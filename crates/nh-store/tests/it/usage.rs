use nh_store::usage::{self, RecordMany, UsageKind, UsageRow};
use nh_testkit::{TestStore, each_engine};
use nh_types::model::Usage;
use nh_types::usage::UsageBy;
use nh_types::{Timestamp, WorkspaceId};

use crate::fixtures::{later, run_id, workspace};

pub(crate) fn call(
    workspace_id: &WorkspaceId,
    at: Timestamp,
    model: &str,
    cost_usd: Option<f64>,
) -> UsageRow {
    UsageRow {
        workspace_id: workspace_id.clone(),
        at,
        key_id: Some(1),
        run_id: Some(run_id(1)),
        agent: Some("a1".to_owned()),
        provider: "openai".to_owned(),
        model: model.to_owned(),
        kind: UsageKind::Chat,
        usage: Usage { input_tokens: 10, output_tokens: 3, cached_tokens: 2, reasoning_tokens: 1, cost_usd },
        estimated: cost_usd.is_none(),
        saved_usd: None,
    }
}

each_engine! {
    async fn calls_are_summed_by_model(store: TestStore) {
        let mine = workspace(store.store(), "mine").await;
        let theirs = workspace(store.store(), "theirs").await;
        let calls = vec![
            call(&mine, later(0), "a", Some(0.25)),
            call(&mine, later(1), "a", Some(0.5)),
            call(&mine, later(2), "b", Some(1.0)),
            call(&mine, later(3), "b", None),
            call(&mine, later(-1), "a", Some(9.0)),
            call(&theirs, later(1), "a", Some(9.0)),
        ];
        store.store().write(RecordMany { calls, settled: Vec::new() }).await.expect("record");
        store.store().write(RecordMany::default()).await.expect("nothing to record");
        let totals = usage::totals(store.store(), &mine, later(0)).await.expect("totals");
        let [a, b] = totals.as_slice() else { panic!("{totals:?}") };
        assert_eq!((a.model.as_str(), a.calls, a.estimated_calls, a.usage.cost_usd), ("a", 2, 0, Some(0.75)));
        assert_eq!((a.usage.input_tokens, a.usage.reasoning_tokens), (20, 2));
        assert_eq!((b.model.as_str(), b.calls, b.estimated_calls, b.usage.cost_usd), ("b", 2, 1, None));
    }

    async fn absurd_numbers_do_not_break_the_sum(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let mut absurd = call(&ws, later(0), "a", None);
        absurd.usage.input_tokens = u64::MAX;
        store.store().write(RecordMany { calls: vec![absurd; 700], settled: Vec::new() }).await.expect("record");
        let totals = usage::totals(store.store(), &ws, later(0)).await.expect("totals");
        assert_eq!(totals[0].calls, 700);
    }

    async fn calls_are_summed_by_what_is_asked(store: TestStore) {
        let (mine, theirs) = (workspace(store.store(), "mine").await, workspace(store.store(), "theirs").await);
        let day_ms = 86_400_000;
        let mut of_nobody = call(&mine, later(0), "b", None);
        (of_nobody.key_id, of_nobody.agent) = (None, None);
        let calls = vec![
            call(&mine, later(0), "a", Some(0.25)),
            call(&mine, later(day_ms), "a", Some(0.5)),
            of_nobody,
            call(&mine, later(2 * day_ms), "a", Some(9.0)),
            call(&theirs, later(0), "a", Some(9.0)),
        ];
        store.store().write(RecordMany { calls, settled: Vec::new() }).await.expect("record");
        let time = (later(0), later(2 * day_ms));
        let sums = async |by: &[UsageBy]| {
            usage::sums(store.store(), &mine, time, by, 10).await.expect("sums")
        };
        let total = sums(&[]).await;
        let [all] = total.as_slice() else { panic!("{total:?}") };
        assert_eq!((all.calls, all.estimated_calls, all.unpriced_calls, all.cost_usd), (3, 1, 1, 0.75));
        assert_eq!((all.input_tokens, all.output_tokens, &all.model), (30, 9, &None));
        let days: Vec<_> = sums(&[UsageBy::Day]).await.into_iter().map(|sum| (sum.day, sum.calls)).collect();
        let day = |text: &str| Some(text.to_owned());
        assert_eq!(days, [(day(&later(0).to_string()[..10]), 2), (day(&later(day_ms).to_string()[..10]), 1)]);
        let keys: Vec<_> = sums(&[UsageBy::Key, UsageBy::Agent]).await;
        assert!(keys.iter().any(|sum| sum.key_id == Some(1) && sum.agent.as_deref() == Some("a1") && sum.calls == 2));
        assert!(keys.iter().any(|sum| sum.key_id.is_none() && sum.agent.is_none() && sum.calls == 1));
        let models = sums(&[UsageBy::Model, UsageBy::Provider, UsageBy::Kind]).await;
        let models: Vec<_> = models.iter().map(|sum| (sum.model.as_deref(), sum.provider.as_deref(), sum.kind.as_deref())).collect();
        assert_eq!(models, [(Some("a"), Some("openai"), Some("chat")), (Some("b"), Some("openai"), Some("chat"))]);
        assert_eq!(usage::sums(store.store(), &mine, time, &[UsageBy::Model], 1).await.expect("sums").len(), 1);
        let nothing = usage::sums(store.store(), &mine, (later(-9), later(-8)), &[], 1).await.expect("sums");
        assert!(nothing.iter().all(|sum| sum.calls == 0));
    }
}
