use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nh_http::Outbound;
use nh_schema::Validator;
use nh_types::ScopeSet;
use nh_types::tool::{OwnTool, ToolView};
use serde_json::{Value, json};

use super::calculate::Calculate;
use super::current_time::CurrentTime;
use super::function_name::function_name;
use super::http_fetch::HttpFetch;
use super::meter::ToolMeter;
use super::own::Workshop;
use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};
use super::web_search::WebSearch;
use crate::search::SearchSettings;
use nh_schema::{self as schema, Fault};

/// Every tool, by name. Clones are cheap and the same registry.
#[derive(Clone)]
pub struct Tools {
    entries: Arc<BTreeMap<String, Arc<Entry>>>,
}

struct Entry {
    tool: Arc<dyn Tool>,
    /// Of the tools of servers, of which there may be hundreds, made when it is needed: they were
    /// checked when they were listed.
    validator: OnceLock<Result<Validator, String>>,
    /// As models are offered it, made when it is.
    function: OnceLock<Value>,
    meter: OnceLock<ToolMeter>,
}

impl Entry {
    /// Names that users choose are too many to be counted one by one.
    fn counted_as(&self) -> &str {
        match self.tool.own() {
            Some(own) => kind(own),
            None => &self.tool.spec().name,
        }
    }

    fn new(tool: Arc<dyn Tool>) -> Result<Self, BadTool> {
        let spec = tool.spec();
        let bad = |message: String| BadTool { name: spec.name.clone(), message };
        if !is_tool_name(&spec.name) {
            return Err(bad("a name is 1 to 128 of A-Z a-z 0-9 _ . -".to_owned()));
        }
        if spec.input_schema.get("type").and_then(Value::as_str) != Some("object") {
            return Err(bad("its input schema is not of type object".to_owned()));
        }
        let is_checked = matches!(tool.own(), Some(OwnTool::Mcp(_)));
        let entry = Self {
            validator: OnceLock::new(),
            function: OnceLock::new(),
            meter: OnceLock::new(),
            tool: tool.clone(),
        };
        if !is_checked && let Err(error) = entry.validator() {
            return Err(bad(format!("its input schema is not valid: {error}")));
        }
        Ok(entry)
    }

    fn validator(&self) -> Result<&Validator, &String> {
        self.validator.get_or_init(|| schema::compile(&self.tool.spec().input_schema)).as_ref()
    }
}

/// What the built-in tools are made of.
pub struct BuiltinSetup<'a> {
    /// For URLs that a model or a user gives.
    pub guarded: Outbound,
    /// For the search provider, which is the operator's word.
    pub operator: Outbound,
    pub search: &'a SearchSettings,
    /// Looks an environment variable up.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// A tool that cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tool `{name}` cannot be registered: {message}")]
pub struct BadTool {
    pub name: String,
    pub message: String,
}

impl Tools {
    /// The tools that need nothing of the hub, and `more`.
    pub fn builtin(
        setup: BuiltinSetup<'_>,
        more: impl IntoIterator<Item = Arc<dyn Tool>>,
    ) -> Result<Self, BadTool> {
        let own: [Arc<dyn Tool>; 4] = [
            Arc::new(Calculate::new()),
            Arc::new(CurrentTime::new()),
            Arc::new(HttpFetch::new(setup.guarded)),
            Arc::new(WebSearch::new(setup.operator, setup.search, setup.environment)),
        ];
        Self::new(own.into_iter().chain(more))
    }

    /// Compiles every input schema once.
    pub fn new(tools: impl IntoIterator<Item = Arc<dyn Tool>>) -> Result<Self, BadTool> {
        let mut entries = BTreeMap::new();
        for tool in tools {
            let entry = Entry::new(tool)?;
            let name = entry.tool.spec().name.clone();
            if entries.insert(name.clone(), Arc::new(entry)).is_some() {
                return Err(BadTool { name, message: "another tool has this name".to_owned() });
            }
        }
        Ok(Self { entries: Arc::new(entries) })
    }

    /// These and a workspace's own, none of which comes in the place of one of these. One
    /// that this version cannot take is left out, so that it keeps no other from being used.
    pub(crate) fn with<'t>(&self, workshop: &Workshop, own: impl IntoIterator<Item = &'t OwnTool>) -> Self {
        let made = own.into_iter().map(|definition| {
            let bad = |message| BadTool { name: definition.name().to_owned(), message };
            workshop.make(definition).map_err(bad)
        });
        self.and(made)
    }

    /// These and those of a workspace's servers, under the same rule.
    pub(crate) fn with_servers(&self, tools: Vec<Arc<dyn Tool>>) -> Self {
        self.and(tools.into_iter().map(Ok))
    }

    fn and(&self, more: impl Iterator<Item = Result<Arc<dyn Tool>, BadTool>>) -> Self {
        let mut more = more.peekable();
        if more.peek().is_none() {
            return self.clone();
        }
        let mut entries = BTreeMap::clone(&self.entries);
        for made in more {
            match made.and_then(Entry::new) {
                Ok(entry) => {
                    let name = entry.tool.spec().name.clone();
                    // A model could not tell two of one function's name from each other.
                    let names = [name.as_str(), &function_name(&name)];
                    if !names.into_iter().any(|name| entries.contains_key(name)) {
                        entries.insert(name, Arc::new(entry));
                    }
                }
                Err(error) => tracing::error!(%error, "a registered tool cannot be used"),
            }
        }
        Self { entries: Arc::new(entries) }
    }

    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.entries.get(name).map(|entry| &entry.tool)
    }

    /// The tool as OpenAI's chat protocol offers functions.
    pub fn function(&self, name: &str) -> Option<&Value> {
        self.entries.get(name).map(|entry| entry.function.get_or_init(|| function(entry.tool.spec())))
    }

    /// The name of the tool that a model calls so.
    pub(crate) fn called(&self, function: &str) -> Option<&str> {
        match self.entries.get_key_value(function) {
            Some((name, _)) => Some(name),
            None => self.entries.keys().find(|name| function_name(name) == function).map(String::as_str),
        }
    }

    /// Sorted by name.
    pub fn list(&self) -> impl Iterator<Item = &Arc<dyn Tool>> {
        self.entries.values().map(|entry| &entry.tool)
    }

    /// Every tool's name, for messages.
    pub fn names(&self) -> String {
        self.entries.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The tools that work and that a run with `scopes` may call.
    pub fn offered_to<'a>(&'a self, scopes: &'a ScopeSet) -> impl Iterator<Item = &'a ToolSpec> {
        self.list()
            .filter(|tool| tool.unavailable().is_none())
            .map(|tool| tool.spec())
            .filter(|spec| spec.scopes.iter().all(|scope| scopes.allows(*scope)))
    }

    /// As `GET /v1/tools` shows them.
    pub fn view(&self) -> Vec<ToolView> {
        self.list().map(|tool| view(tool.as_ref())).collect()
    }

    /// The one required property of a tool, if it is a string: the `input` of
    /// a run's events is then that string itself.
    pub fn sole_string_argument(&self, name: &str) -> Option<&str> {
        let schema = &self.get(name)?.spec().input_schema;
        let [required] = schema.get("required")?.as_array()?.as_slice() else {
            return None;
        };
        let required = required.as_str()?;
        let kind = schema.get("properties")?.get(required)?.get("type")?;
        (kind == "string").then_some(required)
    }

    /// All that is wrong with `arguments`, at most twenty faults.
    pub fn validate(&self, name: &str, arguments: &Value) -> Result<(), Vec<Fault>> {
        let Some(entry) = self.entries.get(name) else {
            return Err(vec![Fault { path: String::new(), message: self.unknown(name) }]);
        };
        let faults = match entry.validator() {
            Ok(validator) => schema::faults(validator, arguments),
            Err(error) => {
                vec![Fault {
                    path: String::new(),
                    message: format!("the tool's schema cannot be used: {error}"),
                }]
            }
        };
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Validates, then calls under the tool's time-out. Whoever calls has
    /// checked the run's scopes.
    pub async fn call(&self, name: &str, call: ToolCall<'_>) -> Result<ToolOutput, ToolError> {
        let Some(entry) = self.entries.get(name) else {
            return Err(ToolError::new("unknown_tool", self.unknown(name)));
        };
        let watched = entry.meter.get_or_init(|| ToolMeter::new(entry.counted_as())).begin(&call);
        let output = self.call_entry(name, entry, call).await;
        watched.end(output.as_ref().err());
        output
    }

    async fn call_entry(
        &self,
        name: &str,
        entry: &Entry,
        call: ToolCall<'_>,
    ) -> Result<ToolOutput, ToolError> {
        let tool = &entry.tool;
        let spec = tool.spec();
        if let Some(reason) = tool.unavailable() {
            return Err(ToolError::new("unavailable_tool", format!("`{name}` is unavailable: {reason}")));
        }
        self.validate(name, call.arguments).map_err(|faults| invalid_arguments(name, &faults))?;
        let limit = Duration::from_millis(spec.timeout_ms);
        let late = |_| ToolError::new("timeout", format!("`{name}` took longer than {} ms", spec.timeout_ms));
        tokio::time::timeout(limit, tool.call(call)).await.map_err(late)?
    }

    fn unknown(&self, name: &str) -> String {
        let name: String = name.chars().take(128).collect();
        format!("there is no tool `{name}`; the tools are {}", self.names())
    }
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

fn invalid_arguments(name: &str, faults: &[Fault]) -> ToolError {
    let told: Vec<_> = faults
        .iter()
        .map(
            |Fault { path, message }| {
                if path.is_empty() { message.clone() } else { format!("{path}: {message}") }
            },
        )
        .collect();
    ToolError::new(
        "invalid_arguments",
        format!("the arguments of `{name}` are not valid: {}", told.join("; ")),
    )
}

fn function(spec: &ToolSpec) -> Value {
    json!({"type": "function", "function": {
        "name": function_name(&spec.name), "description": spec.description, "parameters": spec.input_schema,
    }})
}

fn is_tool_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// As `GET /v1/tools` calls it.
fn kind(own: &OwnTool) -> &'static str {
    match own {
        OwnTool::Code(_) => "code",
        OwnTool::Http(_) => "http",
        OwnTool::Mcp(_) => "mcp",
    }
}

fn view(tool: &dyn Tool) -> ToolView {
    let (spec, unavailable, own) = (tool.spec(), tool.unavailable(), tool.own());
    let (code, http, mcp) = match own {
        Some(OwnTool::Code(code)) => (Some(code), None, None),
        Some(OwnTool::Http(http)) => (None, Some(http), None),
        Some(OwnTool::Mcp(mcp)) => (None, None, Some(mcp)),
        None => (None, None, None),
    };
    ToolView {
        name: spec.name.clone(),
        kind: own.map_or("builtin", kind).to_owned(),
        description: spec.description.clone(),
        input_schema: spec.input_schema.clone(),
        output_schema: spec.output_schema.clone(),
        scopes: spec.scopes.clone(),
        effects: spec.effects,
        timeout_ms: spec.timeout_ms,
        repeatable: spec.repeatable,
        available: unavailable.is_none(),
        unavailable_reason: unavailable,
        language: code.map(|code| code.language),
        code: code.map(|code| code.code.clone()),
        method: http.map(|http| http.method),
        url: http.map(|http| http.url.clone()),
        headers: http.map(|http| http.headers.clone()),
        secrets: http.map(|http| http.secrets.clone()),
        query: http.map(|http| http.query.clone()).unwrap_or_default(),
        body: http.and_then(|http| http.body.clone()),
        mcp_server: mcp.map(|mcp| mcp.mcp_server.clone()),
    }
}
