use nh_store::StoreError;
use nh_store::agents::{self, Change, Create, Delete};
use nh_testkit::{TestStore, each_engine};
use nh_types::agent::AgentDefinition;
use nh_types::{AgentId, PageRequest, WorkspaceId};

use crate::fixtures::{NOW, later, workspace};

fn definition(name: &str) -> AgentDefinition {
    AgentDefinition { name: name.to_owned(), temperature: Some(0.3), ..AgentDefinition::default_agent() }
}

fn agent(id: &str) -> AgentId {
    id.parse().expect("an id")
}

fn create(workspace_id: &WorkspaceId, id: &str, at_ms: i64) -> Create {
    Create { workspace_id: workspace_id.clone(), id: agent(id), definition: definition(id), at: later(at_ms) }
}

each_engine! {
    async fn each_change_makes_a_version_that_stays(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let made = store.store().write(create(&ws, "agent_1", 0)).await.expect("an agent");
        assert_eq!((made.version, made.created_at), (1, NOW));
        assert_eq!(agents::find(store.store(), &ws, &made.id).await.expect("read"), Some(made.clone()));

        let change = Change {
            workspace_id: ws.clone(),
            id: made.id.clone(),
            definition: definition("changed"),
            from_version: 1,
            at: later(7),
        };
        let changed = store.store().write(change.clone()).await.expect("change").expect("there");
        assert_eq!((changed.version, changed.created_at, changed.updated_at), (2, NOW, later(7)));
        assert_eq!(agents::find(store.store(), &ws, &made.id).await.expect("read"), Some(changed));
        let old = agents::find_version(store.store(), &ws, &made.id, 1).await.expect("read");
        assert_eq!(old, Some(made.clone()));

        let lost = store.store().write(change.clone()).await.expect_err("it was changed meanwhile");
        assert!(matches!(&lost, StoreError::Conflict(text) if text.contains("version 2, not 1")), "{lost}");
        let missing = Change { id: agent("nobody"), ..change };
        assert_eq!(store.store().write(missing).await.expect("change"), None);
    }

    async fn a_deleted_agent_leaves_its_versions_and_frees_its_id(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        store.store().write(create(&ws, "agent_1", 0)).await.expect("an agent");
        let taken = store.store().write(create(&ws, "agent_1", 1)).await.expect_err("the id is taken");
        assert_eq!(taken.to_string(), "there is an agent `agent_1` already");

        let delete = Delete { workspace_id: ws.clone(), id: agent("agent_1"), at: later(2) };
        assert!(store.store().write(delete.clone()).await.expect("deleted"));
        assert!(!store.store().write(delete).await.expect("gone"));
        assert_eq!(agents::find(store.store(), &ws, &agent("agent_1")).await.expect("read"), None);
        let old = agents::find_version(store.store(), &ws, &agent("agent_1"), 1).await.expect("read");
        assert_eq!(old.expect("kept").definition.name, "agent_1");

        let again = store.store().write(create(&ws, "agent_1", 3)).await.expect("an agent");
        assert_eq!((again.version, again.created_at), (2, later(3)));
    }

    async fn the_agent_in_memory_is_the_one_in_the_store(store: TestStore) {
        let (ws, id) = (workspace(store.store(), "acme").await, agent("agent_1"));
        let current = async || agents::current(store.store(), &ws, &id).await.expect("read").map(|agent| agent.version);
        assert_eq!(current().await, None);
        store.store().write(create(&ws, "agent_1", 0)).await.expect("an agent");
        for version in 1..50 {
            assert_eq!(current().await, Some(version));
            let change = Change {
                workspace_id: ws.clone(),
                id: id.clone(),
                definition: definition("changed"),
                from_version: version,
                at: later(7),
            };
            // Reads beside a change find the one or the other, and keep nothing old.
            let (changed, first, second, third) =
                tokio::join!(store.store().write(change), current(), current(), current());
            assert_eq!(changed.expect("change").expect("there").version, version + 1);
            let either = [Some(version), Some(version + 1)];
            assert!([first, second, third].iter().all(|read| either.contains(read)), "{first:?} {second:?} {third:?}");
        }
        let delete = Delete { workspace_id: ws.clone(), id: id.clone(), at: later(9) };
        assert!(store.store().write(delete).await.expect("deleted"));
        assert_eq!(current().await, None);
        let other = workspace(store.store(), "other").await;
        assert_eq!(agents::current(store.store(), &other, &id).await.expect("read"), None);
    }

    async fn lists_are_paged_from_the_newest(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        for id in ["b", "a", "c"] {
            store.store().write(create(&ws, id, 5)).await.expect("an agent");
        }
        let mut page = PageRequest { limit: 2, after: None };
        let first = agents::list(store.store(), &ws, &page).await.expect("list");
        page.after = first.next.clone();
        let second = agents::list(store.store(), &ws, &page).await.expect("list");
        let ids: Vec<String> = first.items.iter().chain(&second.items).map(|agent| agent.id.to_string()).collect();
        assert_eq!(ids, ["c", "b", "a", "agent_default"]);
        assert_eq!(second.next, None);
        for bad in ["", "x", "1", "x.y", "\0.a"] {
            page.after = Some(bad.to_owned());
            let error = agents::list(store.store(), &ws, &page).await.expect_err("no cursor");
            assert!(matches!(error, StoreError::InvalidCursor(_)), "{bad}");
        }
    }

    async fn another_workspace_sees_and_changes_nothing(store: TestStore) {
        let mine = workspace(store.store(), "mine").await;
        let theirs = workspace(store.store(), "theirs").await;
        let made = store.store().write(create(&mine, "agent_1", 0)).await.expect("an agent");
        assert_eq!(agents::find(store.store(), &theirs, &made.id).await.expect("read"), None);
        assert_eq!(agents::find_version(store.store(), &theirs, &made.id, 1).await.expect("read"), None);
        let change = Change {
            workspace_id: theirs.clone(),
            id: made.id.clone(),
            definition: definition("stolen"),
            from_version: 1,
            at: NOW,
        };
        assert_eq!(store.store().write(change).await.expect("change"), None);
        let delete = Delete { workspace_id: theirs.clone(), id: made.id.clone(), at: NOW };
        assert!(!store.store().write(delete).await.expect("delete"));
        assert_eq!(agents::find(store.store(), &mine, &made.id).await.expect("read"), Some(made));
        // The same id is free in each workspace.
        assert_eq!(store.store().write(create(&theirs, "agent_1", 0)).await.expect("an agent").version, 1);
    }
}
