use std::sync::Arc;

use nh_store::StoreError;
use nh_store::seals::{self, MasterKey, Place, Proof, Put, Remove, Sealed, Sealer};
use nh_testkit::{SeededIds, TestStore, each_engine};
use nh_types::WorkspaceId;
use secrecy::{ExposeSecret, SecretSlice};

use crate::fixtures::workspace;

fn master(byte: u8) -> MasterKey {
    MasterKey::from_bytes(&[byte; 32]).expect("32 bytes")
}

/// Seals under the first key; opens under all of them.
fn sealer(keys: &[u8]) -> Sealer {
    let old: Vec<MasterKey> = keys[1..].iter().copied().map(master).collect();
    Sealer::new(&master(keys[0]), &old, Arc::new(SeededIds::new(7)))
}

fn secret(text: &str) -> SecretSlice<u8> {
    text.as_bytes().to_vec().into()
}

async fn stored(store: &TestStore, sealer: &Sealer, ws: &WorkspaceId, row: &str) -> Option<Vec<u8>> {
    let opened = seals::open(store.store(), sealer, ws, "tools", row).await.expect("opens");
    opened.map(|secret| secret.expose_secret().to_vec())
}

#[test]
fn a_sealed_value_opens_in_its_place_only() {
    let sealer = sealer(&[1]);
    let (mine, theirs): (WorkspaceId, WorkspaceId) = (
        "ws_00000000000000000000".parse().expect("an id"),
        "ws_11111111111111111111".parse().expect("an id"),
    );
    let place = Place { workspace_id: Some(&mine), table: "tools", row_id: "12" };
    let sealed = sealer.seal(place, &secret("hunter2")).expect("seals");
    assert_eq!(sealer.open(place, &sealed).expect("opens").expose_secret(), b"hunter2");
    assert!(!sealed.bytes.windows(7).any(|window| window == b"hunter2"));
    // The same value again is another ciphertext.
    assert_ne!(sealer.seal(place, &secret("hunter2")).expect("seals"), sealed);

    for wrong in [
        Place { workspace_id: Some(&theirs), ..place },
        Place { workspace_id: None, ..place },
        Place { table: "tool", row_id: "s12", ..place },
        Place { table: "tools1", row_id: "2", ..place },
        Place { row_id: "13", ..place },
    ] {
        let error = sealer.open(wrong, &sealed).expect_err("another place");
        assert!(matches!(error, StoreError::Unsealable { .. }), "{wrong:?}");
    }
    for position in 0..sealed.bytes.len() {
        let mut changed = sealed.clone();
        changed.bytes[position] ^= 1;
        assert!(sealer.open(place, &changed).is_err(), "byte {position} was changed");
    }
    for length in 0..sealed.bytes.len() {
        let short = Sealed { bytes: sealed.bytes[..length].to_vec(), ..sealed.clone() };
        assert!(sealer.open(place, &short).is_err(), "cut to {length} bytes");
    }
}

#[test]
fn a_master_key_has_32_bytes() {
    for length in [0, 31, 33, 64] {
        let error = MasterKey::from_bytes(&vec![0; length]).err().expect("refused");
        assert!(error.to_string().contains(&format!("this one has {length}")), "{error}");
    }
}

each_engine! {
    async fn a_wrong_master_key_is_told_at_start(store: TestStore) {
        assert_eq!(seals::prove(store.store(), &sealer(&[1])).await.expect("proof"), Proof::First);
        assert_eq!(seals::prove(store.store(), &sealer(&[1])).await.expect("proof"), Proof::Same);
        let error = seals::prove(store.store(), &sealer(&[2])).await.expect_err("another key");
        assert!(error.to_string().contains("old_master_key_files"), "{error}");
        assert_eq!(seals::prove(store.store(), &sealer(&[1])).await.expect("proof"), Proof::Same);
    }

    async fn secrets_are_kept_replaced_and_removed(store: TestStore) {
        let mine = workspace(store.store(), "mine").await;
        let theirs = workspace(store.store(), "theirs").await;
        let sealer = sealer(&[1]);
        for value in ["one", "two"] {
            let put = Put::sealing(&sealer, &mine, "tools", "12", &secret(value)).expect("seals");
            store.store().write(put).await.expect("put");
        }
        assert_eq!(stored(&store, &sealer, &mine, "12").await.as_deref(), Some(b"two".as_slice()));
        assert_eq!(stored(&store, &sealer, &theirs, "12").await, None);
        let remove = Remove { workspace_id: mine.clone(), table: "tools", row_id: "12".to_owned() };
        assert!(store.store().write(remove.clone()).await.expect("removed"));
        assert!(!store.store().write(remove).await.expect("gone"));
        assert_eq!(stored(&store, &sealer, &mine, "12").await, None);
    }

    async fn a_new_master_key_takes_over_from_the_old_one(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let old = sealer(&[1]);
        seals::prove(store.store(), &old).await.expect("proof");
        for row in 0..450 {
            let put = Put::sealing(&old, &ws, "tools", &row.to_string(), &secret("value")).expect("seals");
            store.store().write(put).await.expect("put");
        }
        let both = sealer(&[2, 1]);
        let proof = seals::prove(store.store(), &both).await.expect("proof");
        assert_eq!(proof, Proof::Rotated { secrets: 450 });
        let new = sealer(&[2]);
        assert_eq!(seals::prove(store.store(), &new).await.expect("proof"), Proof::Same);
        assert_eq!(stored(&store, &new, &ws, "449").await.as_deref(), Some(b"value".as_slice()));
        assert!(matches!(seals::prove(store.store(), &old).await, Err(StoreError::WrongMasterKey)));
    }

    async fn a_rotation_that_was_cut_short_goes_on(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        seals::prove(store.store(), &sealer(&[1])).await.expect("proof");
        // One secret is under the new key already, one is not; the mark is old.
        for (row, keys) in [("a", [1]), ("b", [2])] {
            let put = Put::sealing(&sealer(&keys), &ws, "tools", row, &secret(row)).expect("seals");
            store.store().write(put).await.expect("put");
        }
        let proof = seals::prove(store.store(), &sealer(&[2, 1])).await.expect("proof");
        assert_eq!(proof, Proof::Rotated { secrets: 1 });
        let new = sealer(&[2]);
        assert_eq!(seals::prove(store.store(), &new).await.expect("proof"), Proof::Same);
        assert_eq!(stored(&store, &new, &ws, "a").await.as_deref(), Some(b"a".as_slice()));
        assert_eq!(stored(&store, &new, &ws, "b").await.as_deref(), Some(b"b".as_slice()));
    }
}
