use nh_store::sessions::{self, SessionRecord};
use nh_store::users::{self, Membership, Role, User};
use nh_store::{StoreError, credentials};
use nh_testkit::{TestStore, each_engine};
use nh_types::{UserId, WorkspaceId};

use crate::fixtures::{NOW, later, workspace};

fn user_id(letter: char) -> UserId {
    format!("user_{}", letter.to_string().repeat(20)).parse().expect("an id")
}

fn user(letter: char, email: &str, workspace_id: &WorkspaceId, role: Role) -> users::Create {
    let user = User {
        id: user_id(letter),
        email: email.to_owned(),
        password_hash: "$argon2id$…".to_owned(),
        created_at: NOW,
    };
    users::Create { user, workspace_id: workspace_id.clone(), role }
}

fn session(token: u8, letter: char, workspace_id: &WorkspaceId) -> sessions::Create {
    sessions::Create {
        token_hash: [token; 32],
        user_id: user_id(letter),
        workspace_id: workspace_id.clone(),
        created_at: NOW,
        expires_at: later(1000),
    }
}

each_engine! {
    async fn users_are_found_by_address_in_any_case(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        store.store().write(user('a', " Ada@Example.com ", &ws, Role::Owner)).await.expect("a user");
        let found = users::find_by_email(store.store(), "ADA@example.COM").await.expect("read").expect("there");
        assert_eq!((found.id, found.email.as_str()), (user_id('a'), "ada@example.com"));
        assert_eq!(users::find(store.store(), &user_id('a')).await.expect("read").expect("there").email, found.email);
        assert!(users::find_by_email(store.store(), "bob@example.com").await.expect("read").is_none());

        let taken = store.store().write(user('b', "ada@example.com", &ws, Role::Member)).await;
        assert_eq!(taken.expect_err("taken").to_string(), "there is a user `ada@example.com` already");
        let nowhere = "ws_00000000000000000000".parse().expect("an id");
        let missing = store.store().write(user('c', "c@example.com", &nowhere, Role::Member)).await;
        assert!(matches!(missing, Err(StoreError::Missing(_))));
        // Nothing of the user was kept.
        assert!(users::find_by_email(store.store(), "c@example.com").await.expect("read").is_none());
    }

    async fn a_user_belongs_to_workspaces_with_a_role_in_each(store: TestStore) {
        let (one, two) = (workspace(store.store(), "one").await, workspace(store.store(), "two").await);
        store.store().write(user('a', "ada@example.com", &two, Role::Owner)).await.expect("a user");
        let before = credentials::epoch(store.store()).await.expect("epoch");
        let join = |workspace_id: &WorkspaceId, role| users::AddMembership {
            user_id: user_id('a'),
            workspace_id: workspace_id.clone(),
            role,
            at: NOW,
        };
        store.store().write(join(&one, Role::Member)).await.expect("join");
        store.store().write(join(&two, Role::Member)).await.expect("change the role");
        assert_eq!(credentials::epoch(store.store()).await.expect("epoch"), before + 2);
        let member = |workspace_id: &WorkspaceId, name: &str| Membership {
            workspace_id: workspace_id.clone(),
            workspace_name: name.to_owned(),
            role: Role::Member,
        };
        let memberships = users::memberships(store.store(), &user_id('a')).await.expect("read");
        assert_eq!(memberships, [member(&one, "one"), member(&two, "two")]);
        let stranger = users::AddMembership { user_id: user_id('z'), ..join(&one, Role::Owner) };
        assert!(matches!(store.store().write(stranger).await, Err(StoreError::Missing(_))));
    }

    async fn sessions_live_in_one_workspace_of_their_user(store: TestStore) {
        let (one, two) = (workspace(store.store(), "one").await, workspace(store.store(), "two").await);
        store.store().write(user('a', "ada@example.com", &one, Role::Owner)).await.expect("a user");
        let made = store.store().write(session(1, 'a', &one)).await.expect("a session");
        let expected = SessionRecord {
            token_hash: [1; 32],
            user_id: user_id('a'),
            workspace_id: one.clone(),
            role: Role::Owner,
            created_at: NOW,
            expires_at: later(1000),
            last_seen_at: NOW,
        };
        assert_eq!(made, expected);
        assert_eq!(sessions::find(store.store(), &[1; 32]).await.expect("read"), Some(expected));
        let foreign = store.store().write(session(2, 'a', &two)).await;
        assert!(matches!(foreign, Err(StoreError::Missing(_))));

        let change = sessions::SetWorkspace { token_hash: [1; 32], workspace_id: two.clone() };
        assert!(!store.store().write(change.clone()).await.expect("not a member there"));
        let join = users::AddMembership { user_id: user_id('a'), workspace_id: two.clone(), role: Role::Member, at: NOW };
        store.store().write(join).await.expect("join");
        let before = credentials::epoch(store.store()).await.expect("epoch");
        assert!(store.store().write(change).await.expect("moved"));
        assert_eq!(credentials::epoch(store.store()).await.expect("epoch"), before + 1);
        let found = sessions::find(store.store(), &[1; 32]).await.expect("read").expect("there");
        assert_eq!((found.workspace_id, found.role), (two, Role::Member));
    }

    async fn sessions_end_by_deletion_expiry_and_idleness(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        store.store().write(user('a', "ada@example.com", &ws, Role::Owner)).await.expect("a user");
        for token in 1..=4 {
            let expires_at = if token == 2 { later(10) } else { later(1000) };
            let new = sessions::Create { expires_at, ..session(token, 'a', &ws) };
            store.store().write(new).await.expect("a session");
        }
        let before = credentials::epoch(store.store()).await.expect("epoch");
        let delete = sessions::Delete { token_hash: [1; 32] };
        assert!(store.store().write(delete.clone()).await.expect("deleted"));
        assert!(!store.store().write(delete).await.expect("gone"));
        assert_eq!(credentials::epoch(store.store()).await.expect("epoch"), before + 1);

        let seen = sessions::Touch(vec![([3; 32], later(50)), ([3; 32], later(40)), ([9; 32], later(50))]);
        store.store().write(seen).await.expect("touch");
        let purge = sessions::Purge { now: later(10), idle_since: later(50) };
        assert_eq!(store.store().write(purge).await.expect("purge"), 2);
        let left = sessions::find(store.store(), &[3; 32]).await.expect("read").expect("there");
        assert_eq!(left.last_seen_at, later(50));
        assert_eq!(sessions::find(store.store(), &[4; 32]).await.expect("read"), None);
    }
}
