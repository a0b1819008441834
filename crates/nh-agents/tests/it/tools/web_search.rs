use nh_agents::search::{SearchProvider, SearchSettings};
use nh_agents::tools::Tools;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::server::{Server, answer};
use super::{call, plain_tools, tools_with};

const KEY: &str = "key-that-must-stay-secret";

fn settings(provider: SearchProvider, server: &Server) -> SearchSettings {
    SearchSettings {
        provider: Some(provider),
        base_url: Some(server.url("/").parse().unwrap()),
        api_key: Some(SecretString::from(KEY)),
        engine_id: Some("engine:id".to_owned()),
        ..SearchSettings::default()
    }
}

fn tools_for(settings: &SearchSettings) -> Tools {
    tools_with(&[], settings, &|_| None)
}

async fn json_server(body: Value) -> Server {
    Server::start(move |_| answer("200 OK", "application/json", body.to_string())).await
}

/// What SearXNG 2025 answers at `/search?format=json`, shortened.
fn searxng_answer() -> Value {
    json!({
        "query": "ARPANET history", "number_of_results": 0,
        "results": [
            {"url": "https://en.wikipedia.org/wiki/ARPANET", "title": "ARPANET", "content": "The Advanced Research\n Projects Agency Network",
             "engine": "wikipedia", "parsed_url": ["https", "en.wikipedia.org", "/wiki/ARPANET", "", "", ""], "score": 1.0},
            {"url": "https://www.darpa.mil/", "title": "DARPA", "content": null, "engine": "brave"},
            {"url": "javascript:alert(1)", "title": "bad", "content": ""},
        ],
        "answers": [], "corrections": [], "infoboxes": [], "suggestions": [], "unresponsive_engines": [["google", "timeout"]],
    })
}

#[tokio::test]
async fn searxng() {
    let server = json_server(searxng_answer()).await;
    let mut settings = settings(SearchProvider::Searxng, &server);
    settings.api_key = None;
    settings.base_url = Some(server.url("/searx/").parse().unwrap());
    let output =
        call(&tools_for(&settings), "web_search", json!({"query": "ARPANET history"})).await.unwrap();
    assert_eq!(
        output.text,
        "2 results of SearXNG for `ARPANET history`:\n\n\
         1. ARPANET\nhttps://en.wikipedia.org/wiki/ARPANET\nThe Advanced Research Projects Agency Network\n\n\
         2. DARPA\nhttps://www.darpa.mil/\n"
    );
    let request = server.requests().remove(0);
    assert!(request.starts_with("GET /searx/search?q=ARPANET+history&format=json HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn brave() {
    let server = json_server(json!({
        "type": "search", "query": {"original": "q"},
        "web": {"type": "search", "results": [
            {"title": "Tom &amp; Jerry", "url": "https://example.com/1", "description": "It&#x27;s <strong>here</strong>", "age": "2 days ago"},
            {"title": "Second", "url": "https://example.com/2"},
            {"title": "Third", "url": "https://example.com/3", "description": ""},
        ]},
    }))
    .await;
    let tools = tools_for(&settings(SearchProvider::Brave, &server));
    let output = call(&tools, "web_search", json!({"query": "tom & jerry", "count": 2})).await.unwrap();
    assert_eq!(
        output.value,
        json!({"query": "tom & jerry", "provider": "Brave", "results": [
            {"title": "Tom & Jerry", "url": "https://example.com/1", "snippet": "It's here"},
            {"title": "Second", "url": "https://example.com/2", "snippet": ""},
        ]})
    );
    let request = server.requests().remove(0);
    assert!(request.starts_with("GET /res/v1/web/search?q=tom+%26+jerry&count=2&"), "{request}");
    assert!(request.contains(&format!("x-subscription-token: {KEY}\r\n")), "{request}");
    assert!(request.contains("accept: application/json\r\n"), "{request}");

    let server = json_server(json!({"type": "search", "query": {"original": "q"}})).await;
    let tools = tools_for(&settings(SearchProvider::Brave, &server));
    let output = call(&tools, "web_search", json!({"query": "qqq"})).await.unwrap();
    assert_eq!(output.text, "Brave found nothing for `qqq`. Try other words.");
}

#[tokio::test]
async fn tavily() {
    let server = json_server(json!({
        "query": "who is Leo Messi?", "answer": null, "images": [], "response_time": 1.67,
        "results": [{"title": "Lionel Messi Facts", "url": "https://www.britannica.com/facts/Lionel-Messi",
                     "content": "An Argentine footballer", "score": 0.81, "raw_content": null}],
    }))
    .await;
    let tools = tools_for(&settings(SearchProvider::Tavily, &server));
    let output = call(&tools, "web_search", json!({"query": "who is Leo Messi?"})).await.unwrap();
    assert_eq!(output.value["results"][0]["snippet"], "An Argentine footballer");
    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /search HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("authorization: Bearer {KEY}\r\n")), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body, json!({"query": "who is Leo Messi?", "max_results": 5}));
}

#[tokio::test]
async fn google() {
    let server = json_server(json!({
        "kind": "customsearch#search", "searchInformation": {"totalResults": "1"},
        "items": [{"kind": "customsearch#result", "title": "Lectures", "htmlTitle": "<b>Lectures</b>",
                   "link": "https://example.edu/", "snippet": "All lectures"}],
    }))
    .await;
    let tools = tools_for(&settings(SearchProvider::Google, &server));
    let output = call(&tools, "web_search", json!({"query": "lectures", "count": 10})).await.unwrap();
    assert_eq!(
        output.value["results"],
        json!([{"title": "Lectures", "url": "https://example.edu/", "snippet": "All lectures"}])
    );
    let request = server.requests().remove(0);
    let expected = format!("GET /customsearch/v1?key={KEY}&cx=engine%3Aid&q=lectures&num=10 HTTP/1.1\r\n");
    assert!(request.starts_with(&expected), "{request}");

    let server = json_server(json!({"kind": "customsearch#search"})).await;
    let tools = tools_for(&settings(SearchProvider::Google, &server));
    assert_eq!(call(&tools, "web_search", json!({"query": "q"})).await.unwrap().value["results"], json!([]));
}

const EVERY: [SearchProvider; 4] =
    [SearchProvider::Searxng, SearchProvider::Brave, SearchProvider::Tavily, SearchProvider::Google];

#[tokio::test]
async fn a_refusal_is_told_without_the_key() {
    for provider in EVERY {
        for (status, code) in [
            ("401 Unauthorized", "search_refused"),
            ("403 Forbidden", "search_refused"),
            ("429 Too Many Requests", "rate_limited"),
            ("500 Oh", "search_failed"),
            ("302 Found", "search_failed"),
        ] {
            let server = Server::start(move |request| answer(status, "application/json", request)).await;
            let tools = tools_for(&settings(provider, &server));
            let error = call(&tools, "web_search", json!({"query": "q"})).await.unwrap_err();
            assert_eq!(error.code, code, "{provider:?} {status}");
            assert!(!format!("{error:?}").contains(KEY), "{error:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_another_shape_is_told() {
    for provider in EVERY {
        for body in [
            "",
            "<html>",
            "3",
            "{\"results\": 1, \"web\": 1, \"items\": 1}",
            "{\"results\": [1], \"web\": {\"results\": [1]}, \"items\": [1]}",
        ] {
            let server = Server::start(move |_| answer("200 OK", "application/json", body)).await;
            let tools = tools_for(&settings(provider, &server));
            let error = call(&tools, "web_search", json!({"query": "q"})).await.unwrap_err();
            assert_eq!(error.code, "search_failed", "{provider:?} {body}");
            assert!(!error.message.contains(KEY), "{error}");
        }
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let settings = SearchSettings {
        provider: Some(SearchProvider::Google),
        base_url: Some(nobody.parse().unwrap()),
        api_key: Some(SecretString::from(KEY)),
        engine_id: Some("cx".to_owned()),
        ..SearchSettings::default()
    };
    let error = call(&tools_for(&settings), "web_search", json!({"query": "q"})).await.unwrap_err();
    assert_eq!(error.code, "search_failed");
    assert!(!error.message.contains(KEY), "{error}");
}

#[tokio::test]
async fn long_results_are_bounded() {
    let found = json!({"url": format!("https://example.com/{}", "u".repeat(5_000)), "title": "t".repeat(5_000), "content": "c ".repeat(5_000)});
    let server = json_server(json!({"results": vec![found; 50]})).await;
    let tools = tools_for(&settings(SearchProvider::Tavily, &server));
    let output = call(&tools, "web_search", json!({"query": "q"})).await.unwrap();
    assert_eq!(output.value["results"].as_array().unwrap().len(), 5);
    assert!(output.text.len() < 10_000);
}

fn reason(settings: &SearchSettings, environment: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    tools_with(&[], settings, environment).get("web_search").unwrap().spec().unavailable.clone()
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let with = |provider| SearchSettings { provider: Some(provider), ..SearchSettings::default() };
    let none = |_: &str| None;
    let named = |settings: &SearchSettings| reason(settings, &none).unwrap();
    assert!(named(&SearchSettings::default()).contains("set [search] provider to searxng"));
    assert!(named(&with(SearchProvider::Searxng)).contains("set [search] base_url"));
    for provider in [SearchProvider::Brave, SearchProvider::Tavily, SearchProvider::Google] {
        assert!(named(&with(provider)).contains("set [search] api_key or api_key_env"));
    }
    let mut google = with(SearchProvider::Google);
    google.api_key = Some(SecretString::from(KEY));
    assert!(named(&google).contains("set [search] engine_id"));
    google.engine_id = Some("cx".to_owned());
    assert_eq!(reason(&google, &none), None);
    google.base_url = Some("ftp://example.com".parse().unwrap());
    assert!(named(&google).contains("must begin with http"));

    let brave =
        SearchSettings { api_key_env: Some("BRAVE_API_KEY".to_owned()), ..with(SearchProvider::Brave) };
    assert!(named(&brave).contains("environment variable `BRAVE_API_KEY`, which is not set"));
    assert_eq!(reason(&brave, &|name| (name == "BRAVE_API_KEY").then(|| KEY.to_owned())), None);

    let error = call(&plain_tools(), "web_search", json!({"query": "q"})).await.unwrap_err();
    assert_eq!(error.code, "unavailable_tool");
    assert!(error.message.contains("[search] provider"), "{error}");
}

#[test]
fn the_settings_name_unknown_fields_and_print_no_key() {
    let settings: SearchSettings =
        serde_json::from_value(json!({"provider": "brave", "api_key": KEY, "base_url": null})).unwrap();
    assert_eq!(settings.provider, Some(SearchProvider::Brave));
    let printed = serde_json::to_string(&settings).unwrap() + &format!("{settings:?}");
    assert!(!printed.contains(KEY), "{printed}");
    let error = serde_json::from_value::<SearchSettings>(json!({"apikey": 1})).unwrap_err();
    assert!(error.to_string().contains("unknown field `apikey`"), "{error}");
    let error = serde_json::from_value::<SearchSettings>(json!({"provider": "bing"})).unwrap_err();
    assert!(error.to_string().contains("unknown variant `bing`"), "{error}");
}
