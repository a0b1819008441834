use nh_store::sandboxes::{self, Begin, Begun, Hold, Prolong, SandboxRecord, Started, Stop};
use nh_testkit::{TestStore, each_engine};
use nh_types::sandbox::{Isolation, SandboxState, StopReason};
use nh_types::{SandboxId, WorkspaceId};

use crate::fixtures::{NOW, later, workspace};

pub(crate) fn id(letter: char) -> SandboxId {
    format!("sbx-{}", letter.to_string().repeat(16)).parse().expect("an id")
}

pub(crate) fn begin(letter: char, node: &str, workspace_id: &WorkspaceId, hold_ms: i64) -> Begin {
    let sandbox = SandboxRecord {
        id: id(letter),
        workspace_id: workspace_id.clone(),
        node: node.to_owned(),
        template: "python".to_owned(),
        isolation: Isolation::Gvisor,
        state: SandboxState::Starting,
        stop_reason: None,
        created_by: "key:1".to_owned(),
        run_id: None,
        memory_mb: 512,
        cpu_millis: 500,
        created_at: NOW,
        expires_at: later(1000),
        stopped_at: None,
    };
    Begin { sandbox, most: 3, hold_ms }
}

pub(crate) fn hold(node: &str, may_tell_lost: bool) -> Hold {
    let (node, at) = (node.to_owned(), later(5));
    Hold { node, hold_ms: 60_000, at, ended_before: NOW, may_tell_lost }
}

each_engine! {
    async fn what_nobody_holds_any_more_is_told_as_lost(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let (store, is_shared) = (store.store(), store.store().is_shared());
        for (letter, node, hold_ms) in [('a', "one", 60_000), ('b', "two", 60_000), ('c', "three", -1)] {
            let begun = store.write(begin(letter, node, &ws, hold_ms)).await.expect("begun");
            assert!(matches!(begun, Begun::Done(_)));
        }
        assert!(matches!(store.write(begin('d', "one", &ws, 1)).await.expect("read"), Begun::Full));
        // Who comes back from a break first gives the others time; one process alone has nobody to wait for.
        assert_eq!(store.write(hold("one", false)).await.expect("held"), [id('a')]);
        let live = async || {
            let live = sandboxes::live(store, &ws).await.expect("read");
            let mut ids: Vec<SandboxId> = live.into_iter().map(|sandbox| sandbox.id).collect();
            ids.sort();
            ids
        };
        assert_eq!(live().await, if is_shared { vec![id('a'), id('b'), id('c')] } else { vec![id('a')] });
        store.write(hold("one", true)).await.expect("held");
        assert_eq!(live().await, if is_shared { vec![id('a'), id('b')] } else { vec![id('a')] });
        let lost = sandboxes::find(store, &ws, &id('c')).await.expect("read").expect("told for a while");
        assert_eq!((lost.state, lost.stop_reason), (SandboxState::Stopped, Some(StopReason::HubLost)));
        assert!(!store.write(Started { id: id('c'), at: NOW, expires_at: later(9) }).await.expect("written"));
        let prolong = Prolong { workspace_id: ws.clone(), id: id('c'), expires_at: later(9) };
        assert!(store.write(prolong).await.expect("written").is_none());
    }

    async fn the_first_end_is_the_one_that_is_told(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let other = workspace(store.store(), "other").await;
        let store = store.store();
        store.write(begin('a', "one", &ws, 60_000)).await.expect("begun");
        assert!(store.write(Started { id: id('a'), at: NOW, expires_at: later(9) }).await.expect("written"));
        assert!(sandboxes::find(store, &other, &id('a')).await.expect("read").is_none());
        for reason in [StopReason::Memory, StopReason::HubLost] {
            store.write(Stop { id: id('a'), reason, at: later(3) }).await.expect("written");
        }
        let ended = sandboxes::find(store, &ws, &id('a')).await.expect("read").expect("told for a while");
        assert_eq!((ended.stop_reason, ended.stopped_at), (Some(StopReason::Memory), Some(later(3))));
        assert_eq!(ended.expires_at, later(9));
        // It is forgotten after a while.
        store.write(Hold { ended_before: later(4), ..hold("one", true) }).await.expect("held");
        assert!(sandboxes::find(store, &ws, &id('a')).await.expect("read").is_none());
    }
}
