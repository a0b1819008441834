use nh_store::Store;

/// An empty store of its own, removed on drop.
pub struct TestStore {
    store: Store,
}

impl TestStore {
    pub async fn sqlite() -> Self {
        todo!()
    }

    pub async fn postgres() -> Self {
        todo!()
    }

    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// Runs one async test body on both engines: `each_engine!(async fn name(store:
/// TestStore) { … })` makes the tests `name::sqlite` and `name::postgres`.
#[macro_export]
macro_rules! each_engine {
    ($($(#[$meta:meta])* async fn $name:ident($store:ident: TestStore) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(#[$meta])*
            async fn check($store: $crate::TestStore) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check($crate::TestStore::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                check($crate::TestStore::postgres().await).await;
            }
        }
    )+};
}
