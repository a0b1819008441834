use nh_store::{agents, workspaces};
use nh_testkit::{TestStore, each_engine};
use nh_types::{AgentId, PageRequest};

use crate::fixtures::workspace;

each_engine! {
    async fn a_workspace_begins_with_its_default_agent(store: TestStore) {
        let id = workspace(store.store(), "acme").await;
        let found = workspaces::find(store.store(), &id).await.expect("read").expect("there");
        assert_eq!(workspaces::find_by_name(store.store(), "acme").await.expect("read"), Some(found));
        assert_eq!(workspaces::find_by_name(store.store(), "ACME").await.expect("read"), None);
        let agent = agents::find(store.store(), &id, &AgentId::default_agent()).await.expect("read").expect("there");
        assert_eq!((agent.version, agent.definition.tools), (1, vec!["*".to_owned()]));
    }

    async fn workspaces_are_listed_page_by_page(store: TestStore) {
        for name in ["one", "two", "three"] {
            workspace(store.store(), name).await;
        }
        let mut names = Vec::new();
        let mut page = PageRequest { limit: 1, after: None };
        loop {
            let answer = workspaces::list(store.store(), &page).await.expect("list");
            names.extend(answer.items.into_iter().map(|workspace| workspace.name));
            match answer.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        names.sort();
        assert_eq!(names, ["one", "three", "two"]);
    }
}
