//! Without sandboxes: their rows are enough.

use std::sync::Arc;

use nh_store::sandboxes::{self, Begin, Started};
use nh_store::{keys, usage, workspaces};
use nh_testkit::{FixedClock, SeededIds, TestStore};
use nh_types::agent::AgentDefinition;
use nh_types::key::KeyLimits;
use nh_types::sandbox::{Isolation, SandboxState};
use nh_types::usage::UsageSum;
use nh_types::{Clock, KeyId, SandboxId, WorkspaceId};

use super::*;
use crate::compute::ComputeSetup;
use crate::settings::{ComputeSettings, DriverChoice};

const MINUTE_MS: i64 = 60_000;

struct Fixture {
    compute: Compute,
    clock: FixedClock,
    ids: SeededIds,
    workspace_id: WorkspaceId,
    _files: tempfile::TempDir,
    _store: TestStore,
}

impl Fixture {
    /// A sandbox costs six dollars an hour, a tenth of one a minute.
    async fn new(price_per_hour: Option<f64>, workspace_budget_usd: Option<f64>) -> Self {
        let (test_store, clock, ids) = (TestStore::sqlite().await, FixedClock::default(), SeededIds::new(3));
        let files = tempfile::tempdir().expect("a directory");
        let settings =
            ComputeSettings { driver: DriverChoice::Off, price_per_hour, ..ComputeSettings::default() };
        let compute = Compute::new(ComputeSetup {
            store: test_store.store().clone(),
            settings,
            workspace_budget_usd,
            data_dir: files.path().to_owned(),
            clock: Arc::new(clock.clone()),
            ids: Arc::new(ids.clone()),
        });
        let id = WorkspaceId::generate(&ids);
        let workspace =
            workspaces::Workspace { id: id.clone(), name: "w".to_owned(), created_at: clock.now() };
        let create = workspaces::Create { workspace, default_agent: AgentDefinition::default_agent() };
        test_store.store().write(create).await.expect("a workspace");
        let compute = compute.expect("recipes");
        Self { compute, clock, ids, workspace_id: id, _files: files, _store: test_store }
    }

    async fn key(&self, budget_usd: Option<f64>) -> KeyId {
        let create = keys::Create {
            workspace_id: self.workspace_id.clone(),
            name: "k".to_owned(),
            prefix: "nh_abcd".to_owned(),
            hash: [7; 32],
            scopes: nh_types::ScopeSet::all(),
            created_at: self.clock.now(),
            expires_at: None,
            rate_limit: None,
            limits: KeyLimits { budget_usd, ..KeyLimits::default() },
        };
        self.compute.inner.store.write(create).await.expect("a key").id
    }

    async fn running(&self, created_by: &str) -> SandboxRecord {
        let now = self.clock.now();
        let sandbox = SandboxRecord {
            id: SandboxId::generate(&self.ids),
            workspace_id: self.workspace_id.clone(),
            node: self.compute.inner.node.clone(),
            template: "python".to_owned(),
            isolation: Isolation::Gvisor,
            state: SandboxState::Starting,
            stop_reason: None,
            created_by: created_by.to_owned(),
            run_id: None,
            memory_mb: 512,
            cpu_millis: 500,
            created_at: now,
            expires_at: now,
            stopped_at: None,
        };
        let store = &self.compute.inner.store;
        store.write(Begin { sandbox: sandbox.clone(), most: 9, hold_ms: 60_000 }).await.expect("begun");
        let started = Started { id: sandbox.id.clone(), at: now, expires_at: now };
        assert!(store.write(started).await.expect("started"));
        sandbox
    }

    async fn meter_after(&self, record: &SandboxRecord, minutes: i64) {
        self.clock.advance_ms(minutes * MINUTE_MS);
        self.compute.meter(record, self.clock.now()).await.expect("metered");
    }

    async fn used(&self) -> UsageSum {
        let ever = (Timestamp::default(), self.clock.now().plus_millis(1));
        let sums = usage::sums(&self.compute.inner.store, &self.workspace_id, ever, &[], 1).await;
        sums.expect("sums").into_iter().next().unwrap_or_default()
    }

    async fn is_spent(&self, record: &SandboxRecord) -> bool {
        match self.compute.check_budgets(record).await {
            Ok(()) => false,
            Err(ComputeError::Refused(error)) => {
                assert_eq!(error.code, ErrorCode::BudgetExceeded, "{error}");
                true
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_key_that_has_spent_its_budget_gets_no_more_sandboxes() {
    let hub = Fixture::new(Some(6.0), None).await;
    let key = hub.key(Some(1.0)).await;
    let (own, of_session) = (hub.running(&format!("key:{key}")).await, hub.running("session:user_1").await);
    assert!(!hub.is_spent(&own).await);
    hub.meter_after(&of_session, 15).await;
    assert!(!hub.is_spent(&own).await, "others' sandboxes are not the key's");
    hub.compute.meter(&own, hub.clock.now().plus_millis(-6 * MINUTE_MS)).await.expect("metered");
    assert!(!hub.is_spent(&own).await, "90 cents");
    hub.compute.meter(&own, hub.clock.now().plus_millis(-5 * MINUTE_MS)).await.expect("metered");
    assert!(hub.is_spent(&own).await && !hub.is_spent(&of_session).await);
    // There is another budget in another month.
    hub.clock.advance_ms(30 * 24 * 60 * MINUTE_MS);
    assert!(!hub.is_spent(&own).await);
}

#[tokio::test]
async fn a_workspaces_budget_is_that_of_all_its_sandboxes() {
    let hub = Fixture::new(Some(6.0), Some(1.5)).await;
    let key = hub.key(None).await;
    let all = [hub.running(&format!("key:{key}")).await, hub.running("session:user_1").await];
    hub.meter_after(&all[0], 10).await;
    assert!(!hub.is_spent(&all[0]).await);
    hub.meter_after(&all[1], 0).await;
    assert!(hub.is_spent(&all[0]).await && hub.is_spent(&all[1]).await);
}

#[tokio::test]
async fn what_is_free_counts_against_no_budget() {
    for price in [None, Some(0.0)] {
        let hub = Fixture::new(price, Some(0.0)).await;
        let own = hub.running("session:user_1").await;
        hub.meter_after(&own, 5).await;
        assert!(!hub.is_spent(&own).await);
        let used = hub.used().await;
        assert_eq!((used.sandbox_seconds, used.cost_usd, used.calls), (300.0, 0.0, 1));
    }
}

#[tokio::test]
async fn an_end_that_is_written_twice_is_metered_once() {
    for end in [End::Stopped(StopReason::BudgetSpent), End::Deleted] {
        let hub = Fixture::new(Some(6.0), None).await;
        let own = hub.running("session:user_1").await;
        hub.meter_after(&own, 5).await;
        hub.clock.advance_ms(2 * MINUTE_MS);
        let at = hub.clock.now();
        hub.clock.advance_ms(MINUTE_MS);
        for _ in 0..2 {
            hub.compute.write_end(&own, end, at).await.expect("written");
        }
        assert_eq!(hub.used().await.sandbox_seconds, 420.0);
        let left = sandboxes::find(&hub.compute.inner.store, &hub.workspace_id, &own.id).await.expect("read");
        let reason = left.and_then(|record| record.stop_reason);
        assert_eq!(reason, (end != End::Deleted).then_some(StopReason::BudgetSpent));
    }
}
