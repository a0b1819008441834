use std::sync::Arc;

use futures_util::future::BoxFuture;
use nh_agents::search::{SearchProvider, SearchSettings};
use nh_agents::tools::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec, Tools};
use nh_types::tool::Effects;
use nh_types::{Scope, ScopeSet};
use serde_json::{Value, json};

use super::{call, plain_tools, tools_with};

#[test]
fn the_built_in_tools_in_order() {
    let tools = plain_tools();
    let names: Vec<_> = tools.list().map(|tool| tool.spec().name.clone()).collect();
    assert_eq!(names, ["calculate", "current_time", "http_fetch", "web_search"]);
    let views = tools.view();
    assert_eq!(views.len(), 4);
    assert!(views[..3].iter().all(|view| view.available && view.unavailable_reason.is_none()));
    assert!(!views[3].available);
    assert!(views[3].unavailable_reason.as_deref().unwrap().contains("[search] provider"));
    assert!(
        views
            .iter()
            .all(|view| view.kind == "builtin" && view.repeatable && view.scopes == [Scope::RunWrite])
    );
}

/// The examples in the schemas are what models, and the offline model, go by.
#[test]
fn every_property_is_described_and_every_example_is_valid() {
    let tools = plain_tools();
    for tool in tools.list() {
        let spec = tool.spec();
        assert_eq!(spec.input_schema["additionalProperties"], false, "{}", spec.name);
        for (name, property) in spec.input_schema["properties"].as_object().unwrap() {
            assert!(property["description"].as_str().is_some_and(|text| text.len() > 20), "{name}");
            for example in property["examples"].as_array().into_iter().flatten() {
                assert_eq!(tools.validate(&spec.name, &json!({name: example})), Ok(()), "{name} {example}");
            }
        }
        nh_schema::compile(spec.output_schema.as_ref().unwrap()).unwrap();
    }
}

#[test]
fn a_tool_is_offered_if_it_works_and_the_run_may_call_it() {
    let offered = |tools: &Tools, scopes: &[Scope]| -> Vec<String> {
        let scopes: ScopeSet = scopes.iter().copied().collect();
        tools.offered_to(&scopes).map(|spec| spec.name.clone()).collect()
    };
    let tools = plain_tools();
    assert_eq!(offered(&tools, &[Scope::RunWrite]), ["calculate", "current_time", "http_fetch"]);
    assert_eq!(offered(&tools, &[Scope::RunRead, Scope::ToolsWrite]), Vec::<String>::new());
    let search = SearchSettings {
        provider: Some(SearchProvider::Searxng),
        base_url: Some("http://127.0.0.1:8888".parse().unwrap()),
        ..SearchSettings::default()
    };
    let tools = tools_with(&[], &search, &|_| None);
    assert_eq!(offered(&tools, &[Scope::All]).len(), 4);
}

#[test]
fn all_faults_of_the_arguments_are_told_with_their_place() {
    let tools = plain_tools();
    let faults = tools.validate("web_search", &json!({"query": "", "count": 99, "lang": "de"})).unwrap_err();
    let mut paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths, ["/count", "/lang", "/query"], "{faults:?}");
    let missing = tools.validate("web_search", &json!({})).unwrap_err();
    assert_eq!(missing[0].path, "/query", "{missing:?}");
    assert!(faults.iter().any(|fault| fault.message.contains("'lang'")), "{faults:?}");
    assert_eq!(tools.validate("web_search", &json!({"query": "rust"})), Ok(()));
    for (name, hostile) in [
        ("calculate", json!(null)),
        ("calculate", json!([])),
        ("calculate", json!("17 * 23")),
        ("calculate", json!({"expression": 391})),
        ("calculate", json!({"expression": "1".repeat(401)})),
        ("current_time", json!({"timezone": {"a": "b"}})),
        ("http_fetch", json!({"url": "https://example.com", "method": "DELETE"})),
    ] {
        assert!(tools.validate(name, &hostile).is_err(), "{name} {hostile}");
    }
    let long = json!({"expression": "1".repeat(100_000)});
    let faults = tools.validate("calculate", &long).unwrap_err();
    assert!(faults[0].message.len() < 1_300, "bounded although it quotes the value");
}

#[tokio::test]
async fn a_bad_call_goes_back_in_words_that_mend_it() {
    let tools = plain_tools();
    let error = call(&tools, "calculate", json!({"expr": "1"})).await.unwrap_err();
    assert_eq!(error.code, "invalid_arguments");
    assert!(error.message.starts_with("the arguments of `calculate` are not valid: "), "{error}");
    assert!(error.message.contains("\"expression\" is a required property"), "{error}");
    let error = call(&tools, "calculator", json!({})).await.unwrap_err();
    assert_eq!(error.code, "unknown_tool");
    let names = "calculate, current_time, http_fetch, web_search";
    assert_eq!(error.message, format!("there is no tool `calculator`; the tools are {names}"));
}

#[test]
fn the_sole_string_argument_is_found() {
    let tools = plain_tools();
    assert_eq!(tools.sole_string_argument("web_search"), Some("query"));
    assert_eq!(tools.sole_string_argument("calculate"), Some("expression"));
    assert_eq!(tools.sole_string_argument("http_fetch"), Some("url"));
    assert_eq!(tools.sole_string_argument("current_time"), None);
    assert_eq!(tools.sole_string_argument("unknown"), None);
}

struct Fake(ToolSpec);

impl Fake {
    fn named(name: &str, input_schema: Value) -> Arc<dyn Tool> {
        Arc::new(Self(ToolSpec {
            name: name.to_owned(),
            description: String::new(),
            input_schema,
            output_schema: None,
            scopes: Vec::new(),
            effects: Effects::READS,
            timeout_ms: 20,
            repeatable: false,
            unavailable: None,
        }))
    }
}

impl Tool for Fake {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    fn call<'a>(&'a self, _: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_tool_that_does_not_answer_is_given_up() {
    let tools = Tools::new([Fake::named("slow", json!({"type": "object"}))]).unwrap();
    let error = call(&tools, "slow", json!({})).await.unwrap_err();
    assert_eq!(error, ToolError::new("timeout", "`slow` took longer than 20 ms"));
}

#[test]
fn a_bad_tool_is_refused_by_name() {
    let object = || json!({"type": "object"});
    for (tools, part) in [
        (vec![Fake::named("", object())], "a name is"),
        (vec![Fake::named("with space", object())], "a name is"),
        (vec![Fake::named(&"x".repeat(129), object())], "a name is"),
        (vec![Fake::named("a", json!({"type": "string"}))], "not of type object"),
        (vec![Fake::named("a", json!({"type": "object", "properties": 1}))], "not valid"),
        (vec![Fake::named("a", json!({"type": "object", "$ref": "https://example.com/x"}))], "not valid"),
        (vec![Fake::named("a", object()), Fake::named("a", object())], "another tool"),
    ] {
        let error = Tools::new(tools).unwrap_err();
        assert!(error.message.contains(part), "{error}");
    }
}
