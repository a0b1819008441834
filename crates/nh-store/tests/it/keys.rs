use nh_store::keys::{self, Bootstrap, InstallBootstrap, Revoke, Touch};
use nh_store::{StoreError, credentials};
use nh_testkit::{TestStore, each_engine};
use nh_types::key::KeyLimits;
use nh_types::{PageRequest, Scope, WorkspaceId};

use crate::fixtures::{NOW, later, workspace};

fn key(workspace_id: &WorkspaceId, hash: u8) -> keys::Create {
    keys::Create {
        workspace_id: workspace_id.clone(),
        name: "Agent Production Key".to_owned(),
        prefix: "nh_a1b2".to_owned(),
        hash: [hash; 32],
        scopes: [Scope::ChatWrite, Scope::RunWrite].into_iter().collect(),
        created_at: NOW,
        expires_at: Some(later(1000)),
        rate_limit: Some(60),
        limits: KeyLimits::default(),
    }
}

each_engine! {
    async fn keys_are_numbered_per_workspace_and_found_by_hash(store: TestStore) {
        let mine = workspace(store.store(), "mine").await;
        let theirs = workspace(store.store(), "theirs").await;
        let one = store.store().write(key(&mine, 1)).await.expect("a key");
        let two = store.store().write(key(&mine, 2)).await.expect("a key");
        let other = store.store().write(key(&theirs, 3)).await.expect("a key");
        assert_eq!((one.id, two.id, other.id), (1, 2, 1));

        let found = keys::find_by_hash(store.store(), &[2; 32]).await.expect("read");
        assert_eq!(found, Some(two.clone()));
        assert_eq!(keys::find(store.store(), &mine, 2).await.expect("read"), Some(two));
        assert_eq!(keys::find(store.store(), &theirs, 2).await.expect("read"), None);
        assert_eq!(keys::find_by_hash(store.store(), &[9; 32]).await.expect("read"), None);

        let taken = store.store().write(key(&theirs, 1)).await.expect_err("the hash is taken");
        assert!(matches!(taken, StoreError::Conflict(_)));
        let nowhere = "ws_00000000000000000000".parse().expect("an id");
        let missing = store.store().write(key(&nowhere, 4)).await.expect_err("no workspace");
        assert!(matches!(missing, StoreError::Missing(_)));
    }

    async fn revoking_ends_a_key_for_good_and_moves_the_epoch(store: TestStore) {
        let mine = workspace(store.store(), "mine").await;
        let theirs = workspace(store.store(), "theirs").await;
        store.store().write(key(&mine, 1)).await.expect("a key");
        let before = credentials::epoch(store.store()).await.expect("epoch");
        let revoke = |workspace_id: &WorkspaceId| Revoke { workspace_id: workspace_id.clone(), id: 1, at: later(5) };

        assert!(!store.store().write(revoke(&theirs)).await.expect("revoke"));
        assert_eq!(credentials::epoch(store.store()).await.expect("epoch"), before);
        assert!(store.store().write(revoke(&mine)).await.expect("revoke"));
        assert_eq!(credentials::epoch(store.store()).await.expect("epoch"), before + 1);
        assert!(!store.store().write(revoke(&mine)).await.expect("revoke"));

        let found = keys::find_by_hash(store.store(), &[1; 32]).await.expect("read").expect("still there");
        assert_eq!(found.revoked_at, Some(later(5)));
        let page = keys::list(store.store(), &mine, NOW, &PageRequest::default()).await.expect("list");
        assert!(page.items.is_empty());
        // Its number is not given again.
        assert_eq!(store.store().write(key(&mine, 2)).await.expect("a key").id, 2);
    }

    async fn the_operators_key_is_installed_once(store: TestStore) {
        let ws = workspace(store.store(), "default").await;
        let install = InstallBootstrap {
            workspace_id: ws.clone(),
            hash: [7; 32],
            prefix: "nh_boot".to_owned(),
            at: NOW,
        };
        assert_eq!(store.store().write(install.clone()).await.expect("install"), Bootstrap::Installed);
        assert_eq!(store.store().write(install.clone()).await.expect("install"), Bootstrap::AlreadyThere);
        let found = keys::find_by_hash(store.store(), &[7; 32]).await.expect("read").expect("there");
        assert!(found.scopes.allows(Scope::All));
        store.store().write(Revoke { workspace_id: ws, id: found.id, at: NOW }).await.expect("revoke");
        assert_eq!(store.store().write(install).await.expect("install"), Bootstrap::Revoked);
    }

    async fn last_use_only_moves_forward(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        for hash in 1..=3 {
            store.store().write(key(&ws, hash)).await.expect("a key");
        }
        let at = |id, ms| (ws.clone(), id, later(ms));
        store.store().write(Touch(vec![at(1, 10), at(1, 30), at(1, 20), at(2, 5), at(99, 5)])).await.expect("touch");
        store.store().write(Touch(vec![at(1, 15), at(2, 6)])).await.expect("touch");
        store.store().write(Touch(Vec::new())).await.expect("nothing to touch");
        let page = keys::list(store.store(), &ws, NOW, &PageRequest::default()).await.expect("list");
        let used: Vec<_> = page.items.iter().map(|key| (key.id, key.last_used_at)).collect();
        assert_eq!(used, [(3, None), (2, Some(later(6))), (1, Some(later(30)))]);
    }

    async fn lists_are_paged_from_the_newest(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        for hash in 1..=5 {
            store.store().write(key(&ws, hash)).await.expect("a key");
        }
        let first = PageRequest { limit: 3, after: None };
        let first = keys::list(store.store(), &ws, NOW, &first).await.expect("list");
        assert_eq!(first.items.iter().map(|key| key.id).collect::<Vec<_>>(), [5, 4, 3]);
        let rest = PageRequest { limit: 3, after: first.next };
        let rest = keys::list(store.store(), &ws, NOW, &rest).await.expect("list");
        assert_eq!(rest.items.iter().map(|key| key.id).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(rest.next, None);
    }
}
