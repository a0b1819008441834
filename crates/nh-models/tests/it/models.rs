//! The catalogue: which models there are, what they cost, who serves them.

use nh_models::offline::MODEL_ID;
use nh_models::{ModelError, ProviderKind};
use nh_testkit::upstream::{Reply, Upstream, models, refusing};
use serde_json::json;

use crate::harness::{Hub, hello, hub, hub_of, provider};

async fn ids(hub: &Hub) -> Vec<String> {
    hub.list().await.into_iter().map(|model| model.id).collect()
}

#[tokio::test]
async fn without_a_provider_there_is_the_offline_model() {
    let hub = hub(Vec::new());
    assert_eq!(ids(&hub).await, [MODEL_ID]);
    assert_eq!(hub.default_model().await, MODEL_ID);
    let view = hub.find(MODEL_ID).await.expect("there");
    assert!(view.description.expect("a description").contains("not a language model"));
    assert_eq!(view.input_cost, Some(0.0));
    assert_eq!(hub.find("nope").await, None);
}

#[tokio::test]
async fn openrouters_listing_gives_prices_and_variants() {
    let (hub, upstream) = hub_of(ProviderKind::Openrouter).await;
    upstream.list(Reply::json(200, &json!({"data": [{
        "id": "google/gemini-2.5-flash-lite", "context_length": 1048576, "created": 5,
        "pricing": {"prompt": "0.0000001", "completion": "0.0000004"},
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]}, "supported_parameters": ["tools"],
    }]})));
    let view = hub.find("google/gemini-2.5-flash-lite").await.expect("there");
    assert_eq!((view.input_cost, view.output_cost), (Some(0.1), Some(0.4)));
    assert_eq!(view.capabilities, ["chat", "tools"]);
    assert_eq!((view.context_length, view.created, view.owned_by.as_str()), (Some(1_048_576), 5, "mock"));
    hub.chat(hello("google/gemini-2.5-flash-lite:free")).await.expect("an answer");
    assert_eq!(upstream.calls()[0].body["model"], "google/gemini-2.5-flash-lite:free");
    hub.chat(hello("mock/google/gemini-2.5-flash-lite")).await.expect("an answer");
    assert_eq!(upstream.calls()[1].body["model"], "google/gemini-2.5-flash-lite");
}

#[tokio::test]
async fn the_first_provider_serves_the_bare_id_and_each_serves_its_own() {
    let (one, two) = (Upstream::start().await.expect("a port"), Upstream::start().await.expect("a port"));
    let hub = hub(vec![
        provider("one", ProviderKind::Openai, &one.base_url()),
        provider("two", ProviderKind::Openai, &two.base_url()),
    ]);
    assert_eq!(
        ids(&hub).await,
        ["priced", "mock-1", "mock-embed", "two/priced", "two/mock-1", "two/mock-embed", MODEL_ID]
    );
    hub.chat(hello("mock-1")).await.expect("an answer");
    hub.chat(hello("two/mock-1")).await.expect("an answer");
    assert_eq!((one.calls().len(), two.calls().len()), (1, 1));
    assert_eq!(two.calls()[0].body["model"], "mock-1");
}

#[tokio::test]
async fn an_unknown_model_is_looked_up_anew_but_not_at_every_call() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    for _ in 0..3 {
        let error = hub.chat(hello("late")).await.expect_err("an error");
        assert_eq!(error, ModelError::NotFound { model: "late".to_owned() });
    }
    assert_eq!(upstream.listings(), 1);
    upstream.list(Reply::json(200, &models(&["late"])));
    hub.clock.advance_ms(31_000);
    hub.chat(hello("late")).await.expect("an answer");
    assert_eq!(upstream.listings(), 2);
    // Known ones are not looked up, until the listing is an hour old.
    hub.chat(hello("late")).await.expect("an answer");
    assert_eq!(upstream.listings(), 2);
    hub.clock.advance_ms(3_600_000);
    hub.chat(hello("late")).await.expect("an answer");
    assert_eq!(upstream.listings(), 3);
    // A listing that fails keeps what was known.
    upstream.list(Reply::error(500, "x", "x"));
    hub.clock.advance_ms(3_600_000);
    hub.chat(hello("late")).await.expect("an answer");
    assert!(ids(&hub).await.contains(&"late".to_owned()));
}

#[tokio::test]
async fn a_provider_that_lists_nothing_still_serves_what_is_named_outright() {
    for listing in [
        Reply::error(404, "x", "x"),
        Reply::json(200, &json!({"odd": true})),
        Reply::Whole(200, vec![], "x".to_owned()),
    ] {
        let (hub, upstream) = hub_of(ProviderKind::Openai).await;
        upstream.list(listing);
        hub.chat(hello("mock/anything")).await.expect("an answer");
        assert_eq!(upstream.calls()[0].body["model"], "anything");
        hub.chat(hello("priced")).await.expect("an answer");
        let error = hub.chat(hello("anything")).await.expect_err("an error");
        assert!(error.to_string().contains("whether it serves `anything` is not known"), "{error}");
    }
}

#[tokio::test]
async fn a_provider_that_is_down_leaves_the_list_to_the_others() {
    let upstream = Upstream::start().await.expect("a port");
    let hub = hub(vec![
        provider("down", ProviderKind::Openai, &refusing().await.expect("a port")),
        provider("up", ProviderKind::Openai, &upstream.base_url()),
    ]);
    assert_eq!(ids(&hub).await, ["priced", "up/priced", "mock-1", "mock-embed", MODEL_ID]);
    hub.chat(hello("mock-1")).await.expect("an answer");
}

#[tokio::test]
async fn the_default_model_is_the_first_providers() {
    let upstream = Upstream::start().await.expect("a port");
    let default_of = async |kind: ProviderKind, base_url: &str| {
        let mut one = provider("p", kind, base_url);
        one.models.clear();
        hub(vec![one]).default_model().await
    };
    assert_eq!(default_of(ProviderKind::Openrouter, "http://x").await, "google/gemini-2.5-flash-lite");
    assert_eq!(default_of(ProviderKind::Google, "http://x").await, "google/gemini-2.5-flash-lite");
    assert_eq!(default_of(ProviderKind::Openai, "https://api.openai.com/v1").await, "gpt-5-mini");
    let mut one = provider("p", ProviderKind::Openai, &upstream.base_url());
    one.models.clear();
    let hub = hub(vec![one]);
    assert_eq!(hub.default_model().await, "p/default");
    hub.chat(hello("p/default")).await.expect("an answer");
    assert_eq!(upstream.calls()[0].body["model"], "mock-1");
}

#[tokio::test]
async fn the_built_in_prices_are_for_the_public_addresses_only() {
    let priced = |base_url: &str| {
        let mut one = provider("openai", ProviderKind::Openai, base_url);
        one.models[0] = nh_models::ModelSettings { id: "gpt-5-mini".to_owned(), ..Default::default() };
        hub(vec![one])
    };
    let view = priced("https://api.openai.com/v1").find("gpt-5-mini").await.expect("there");
    assert_eq!((view.input_cost, view.output_cost), (Some(0.25), Some(2.0)));
    let upstream = Upstream::start().await.expect("a port");
    let view = priced(&upstream.base_url()).find("gpt-5-mini").await.expect("there");
    assert_eq!(view.input_cost, None);
}
