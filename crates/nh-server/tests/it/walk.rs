//! A walk over every operation of openapi.json: without a key, with every
//! scope but the documented one, with the documented one alone, and with
//! another workspace's ids.

use http::Method;
use nh_store::sandboxes::{Begin, SandboxRecord};
use nh_types::sandbox::{Isolation, SandboxState};
use nh_types::{Scope, ScopeSet, Timestamp, WorkspaceId};
use serde_json::{Value, json};

use crate::app::TestApp;

struct Operation {
    method: Method,
    path: String,
    document: Value,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(nh_server::openapi()).expect("json");
    let paths = document["paths"].as_object().expect("paths").clone();
    let mut operations = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("item") {
            let method = method.to_uppercase().parse().expect("method");
            operations.push(Operation { method, path: path.clone(), document: operation.clone() });
        }
    }
    operations
}

impl Operation {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// What the named way in needs; None when it is not a way in.
    fn needs(&self, way_in: &str) -> Option<Vec<String>> {
        let ways = self.document["security"].as_array()?;
        let scopes = ways.iter().find_map(|way| way.get(way_in))?;
        Some(scopes.as_array()?.iter().map(|scope| scope.as_str().expect("scope").to_owned()).collect())
    }

    fn is_public(&self) -> bool {
        self.needs("bearer").is_none() && self.needs("session").is_none()
    }

    fn scope(&self) -> Option<Scope> {
        let needs = self.needs("bearer")?;
        needs.first().map(|scope| scope.parse().expect("a scope"))
    }

    fn has_body(&self) -> bool {
        self.document.get("requestBody").is_some()
    }

    /// What a refused credential is called: `@vercel/blob` knows one word, Anthropic's clients
    /// two.
    fn code(&self, ours: &'static str) -> &'static str {
        match ours {
            _ if self.path.starts_with("/v1/storage/vercel") => "forbidden",
            "missing_credential" if self.is_anthropics() => "authentication_error",
            "missing_scope" if self.is_anthropics() => "permission_error",
            _ => ours,
        }
    }

    /// Errors have Anthropic's form, in which nothing names a scope.
    fn is_anthropics(&self) -> bool {
        self.path.starts_with("/v1/messages")
    }

    /// Sessions do not count there, and errors are JSON-RPC's.
    fn is_mcp(&self) -> bool {
        self.path == "/v1/mcp"
    }

    fn refusal(&self, reply: &crate::app::Reply, status: u16) -> (String, Option<String>) {
        if self.is_anthropics() {
            return (crate::messages::error(reply, status), None);
        }
        if !self.is_mcp() {
            return reply.error(status);
        }
        assert_eq!(reply.status.as_u16(), status, "{reply:?}");
        let told = reply.json()["error"]["data"].clone();
        (told["code"].as_str().expect("a code").to_owned(), told["param"].as_str().map(str::to_owned))
    }

    async fn send(&self, app: &TestApp, key: Option<&str>, path: &str) -> crate::app::Reply {
        let mut call = app.anonymous(self.method.clone(), path);
        if let Some(key) = key {
            call = call.key(key);
        }
        // What is missing in a body is told before what is missing in the store.
        let body = match path.rsplit('/').next() {
            Some("signal") => json!({"name": "go"}),
            Some("exec") => json!({"command": ["true"]}),
            _ if path.starts_with("/v1/resources/") => json!({"timeout_seconds": 60}),
            _ => json!({}),
        };
        if self.has_body() { call.json(body).send().await } else { call.send().await }
    }
}

const SANDBOX: &str = "sbx-0000000000000000";

/// The row alone: on this host there may be no driver.
fn sandbox(workspace_id: &WorkspaceId) -> Begin {
    let sandbox = SandboxRecord {
        id: SANDBOX.parse().expect("an id"),
        workspace_id: workspace_id.clone(),
        node: "theirs".to_owned(),
        template: "python".to_owned(),
        isolation: Isolation::Gvisor,
        state: SandboxState::Running,
        stop_reason: None,
        created_by: "key:1".to_owned(),
        run_id: None,
        memory_mb: 512,
        cpu_millis: 1000,
        created_at: Timestamp::from_millis(0),
        expires_at: Timestamp::from_millis(i64::MAX / 2),
        stopped_at: None,
    };
    Begin { sandbox, most: 1, hold_ms: 1_000_000 }
}

/// A path with something in each place.
fn filled(path: &str, ids: &Value) -> String {
    let mut path = path.to_owned();
    let fill = if path.starts_with("/v1/keys") {
        ids["key"].to_string()
    } else if path.starts_with("/v1/agents") {
        "agent_theirs".to_owned()
    } else if path.starts_with("/v1/workflows") {
        "workflow_theirs".to_owned()
    } else if path.starts_with("/v1/schedules") {
        "schedule_theirs".to_owned()
    } else if path.starts_with("/v1/memory") {
        ids["memory"].as_str().expect("memory").to_owned()
    } else if path.starts_with("/v1/storage/uploads") {
        ids["upload"].as_str().expect("upload").to_owned()
    } else if path.starts_with("/v1/storage") {
        path = path.replace("{workspace}", ids["workspace"].as_str().expect("workspace"));
        "theirs.txt".to_owned()
    } else if path.starts_with("/v1/resources") {
        SANDBOX.to_owned()
    } else if path.starts_with("/v1/tools") || path.starts_with("/v1/providers") {
        path = path.replace("{name}", "theirs");
        "theirs".to_owned()
    } else if path.starts_with("/v1/webhooks") {
        format!("msg_{}", ids["run"].as_str().expect("run").replace('-', ""))
    } else if path.starts_with("/v1/models") {
        "neuralhub/offline".to_owned()
    } else {
        ids["run"].as_str().expect("run").to_owned()
    };
    for place in ["{id}", "{runId}", "{pathname}", "{path}"] {
        path = path.replace(place, &fill);
    }
    path = path.replace("{name}", "result").replace("{number}", "1");
    assert!(!path.contains('{'), "{path}: teach the walk this parameter");
    path
}

/// A key, an agent and a run of another workspace.
async fn theirs(app: &TestApp) -> Value {
    let (workspace, key) = app.other_workspace().await;
    let upload = app.call(Method::POST, "/v1/storage/upload?pathname=theirs.txt").key(&key).body("theirs");
    upload.send().await.ok(201);
    let upload = app.post("/v1/storage/uploads", json!({"pathname": "parts"})).key(&key).send().await.ok(201);
    // Ids are counted per workspace: go beyond those that this one has.
    let mut id = json!(0);
    for _ in 0..80 {
        let made =
            app.post("/v1/keys", json!({"name": "theirs", "scopes": ["run:read"]})).key(&key).send().await;
        id = made.ok(201)["id"].clone();
    }
    app.post("/v1/agents", json!({"id": "agent_theirs", "name": "theirs"})).key(&key).send().await.ok(201);
    let workflow =
        json!({"id": "workflow_theirs", "name": "theirs", "steps": [{"id": "a", "uses": "approval"}]});
    app.post("/v1/workflows", workflow).key(&key).send().await.ok(201);
    let body = json!({"target": "calculate", "type": "tool", "input": {"expression": "1+1"}});
    let schedule = json!({"id": "schedule_theirs", "cron": "@daily", "run": body});
    app.post("/v1/schedules", schedule).key(&key).send().await.ok(201);
    let mut body = body;
    body["webhook_url"] = json!("https://hooks.example/");
    let run = app.post("/v1/run", body).key(&key).send().await.ok(200);
    let tool =
        json!({"name": "theirs", "description": "theirs", "language": "python", "code": "def main(): pass"});
    app.post("/v1/tools", tool).key(&key).send().await.ok(201);
    let provider = json!({"name": "theirs", "kind": "openai", "base_url": "http://127.0.0.1:1/v1"});
    app.post("/v1/providers", provider).key(&key).send().await.ok(201);
    app.store().write(sandbox(&workspace)).await.expect("a sandbox");
    let memory = app.post("/v1/memory", json!({"content": "theirs"})).key(&key).send().await.ok(201);
    json!({"key": id, "run": run["runId"], "memory": memory["id"], "upload": upload["id"],
        "workspace": workspace.as_str()})
}

#[test]
fn the_public_operations_are_the_known_ones() {
    let mut public: Vec<_> = operations().iter().filter(|one| one.is_public()).map(Operation::name).collect();
    public.sort_unstable();
    let known = [
        "GET /docs",
        "GET /healthz",
        "GET /llms-full.txt",
        "GET /llms.txt",
        "GET /openapi.json",
        "GET /readyz",
        "POST /v1/auth/login",
    ];
    assert_eq!(public, known);
}

#[tokio::test]
async fn without_a_key_everything_else_is_a_401() {
    let app = TestApp::new().await;
    let ids = json!({"key": 1, "run": "00000000-0000-7000-8000-000000000000", "memory": "mem_00000000000000000000",
        "upload": "upl_00000000000000000000", "workspace": "ws_00000000000000000000"});
    for operation in operations() {
        let reply = operation.send(&app, None, &filled(&operation.path, &ids)).await;
        match operation.is_public() {
            true => assert_ne!(reply.status.as_u16(), 401, "{}", operation.name()),
            false => {
                let told = operation.refusal(&reply, 401).0;
                assert_eq!(told, operation.code("missing_credential"), "{}", operation.name())
            }
        }
    }
}

#[tokio::test]
async fn the_documented_scope_is_the_enforced_one() {
    let app = TestApp::new().await;
    let ids = json!({"key": 999, "run": "00000000-0000-7000-8000-000000000000", "memory": "mem_00000000000000000000",
        "upload": "upl_00000000000000000000", "workspace": "ws_00000000000000000000"});
    let mut checked = 0;
    for operation in operations() {
        let Some(scope) = operation.scope() else { continue };
        let session = Some(vec![scope.to_string()]).filter(|_| !operation.is_mcp());
        assert_eq!(operation.needs("session"), session, "{}", operation.name());
        let path = filled(&operation.path, &ids);
        let without: ScopeSet = Scope::EVERY.iter().copied().filter(|held| !held.includes(scope)).collect();
        let key = app.key_with(&without.to_text()).await;
        let reply = operation.send(&app, Some(&key), &path).await;
        assert_eq!(
            operation.refusal(&reply, 403),
            (
                operation.code("missing_scope").to_owned(),
                Some(scope.to_string()).filter(|_| !operation.is_anthropics())
            ),
            "{} with every scope but {scope}",
            operation.name()
        );
        let key = app.key_with(scope.as_str()).await;
        let reply = operation.send(&app, Some(&key), &path).await;
        assert!(!matches!(reply.status.as_u16(), 401 | 403 | 405 | 500..), "{}: {reply:?}", operation.name());
        checked += 1;
    }
    assert!(checked >= 17, "the walk saw only {checked} operations");
}

#[tokio::test]
async fn another_workspaces_ids_are_not_there() {
    let app = TestApp::new().await;
    let ids = theirs(&app).await;
    let mut checked = 0;
    for operation in operations() {
        // Models belong to no workspace.
        if !operation.path.contains('{') || operation.path.starts_with("/v1/models") {
            continue;
        }
        let reply = operation.send(&app, Some(&app.key), &filled(&operation.path, &ids)).await;
        assert_eq!(reply.code(404), "not_found", "{}", operation.name());
        checked += 1;
    }
    assert!(checked >= 7, "the walk saw only {checked} operations with an id");
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_each_operation_tells_its_errors() {
    let app = TestApp::new().await;
    let document = app.anonymous(Method::GET, "/openapi.json").send().await.ok(200);
    assert!(
        document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
        "{}",
        document["openapi"]
    );
    assert_eq!(document, serde_json::to_value(nh_server::openapi()).expect("json"));
    let mut ids = std::collections::BTreeSet::new();
    for operation in operations() {
        let responses = operation.document["responses"].as_object().expect("responses");
        let tells =
            |status: &str| assert!(responses.contains_key(status), "{} tells no {status}", operation.name());
        if !operation.is_public() {
            tells("401");
            tells("429");
        } else if operation.path != "/v1/auth/login" {
            assert!(!responses.contains_key("401"), "{} takes no credential", operation.name());
        }
        tells("403");
        tells("500");
        if operation.path.contains('{') {
            tells("404");
        }
        if operation.has_body() {
            tells("400");
            tells("413");
            tells("415");
            tells("422");
        }
        assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{}", operation.name());
        assert!(operation.document["summary"].is_string(), "{} has no summary", operation.name());
        for (status, response) in responses {
            let told = response["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(told, "{} does not describe its {status}", operation.name());
        }
        let id = operation.document["operationId"].as_str().expect("an operation id").to_owned();
        assert!(ids.insert(id), "{} has the operationId of another", operation.name());
    }
    let told = &document["webhooks"]["run.ended"]["post"]["requestBody"]["content"]["application/json"];
    assert_eq!(told["schema"]["$ref"], "#/components/schemas/WebhookEvent");
    for reference in references(&document) {
        let pointer = reference.strip_prefix('#').expect("local");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}
