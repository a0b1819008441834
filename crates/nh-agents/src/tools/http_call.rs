//! A request to a server that a workspace registered as a tool. Its secrets are read when it is
//! made, and are taken out of whatever comes back.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use nh_http::{Limits, Outbound};
use nh_schema::Validator;
use nh_store::Store;
use nh_store::seals::Sealer;
use nh_types::Scope;
use nh_types::tool::{Effects, HttpMethod, HttpTool, OwnTool};
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::own::{Workshop, http_secrets};
use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec, cut};
use crate::secret_headers::redact::Redaction;
use crate::secret_headers::template::{Part, parts};
use crate::secret_headers::{ESCAPED, Secrets};
use nh_schema as schema;

const MAX_BODY_BYTES: u64 = 1_000_000;
/// Of what a server says of its refusal.
const MAX_REFUSAL_CHARS: usize = 2_000;
/// Of a header of the answer.
const MAX_HEAD_CHARS: usize = 2_048;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(super) struct HttpCall {
    spec: ToolSpec,
    /// As its run keeps it.
    own: OwnTool,
    definition: HttpTool,
    http: Outbound,
    store: Store,
    sealer: Arc<Sealer>,
    /// Of the JSON that is answered; None: anything.
    returns: Option<Validator>,
}

impl HttpCall {
    pub(super) fn new(definition: &HttpTool, workshop: &Workshop) -> Result<Self, String> {
        let spec = ToolSpec {
            name: definition.name.clone(),
            description: definition.description.clone(),
            input_schema: definition.input_schema.clone(),
            output_schema: definition.output_schema.clone(),
            scopes: vec![Scope::ToolsCall],
            effects: effects(definition.method),
            timeout_ms: u64::from(definition.timeout_seconds) * 1000,
            repeatable: definition.repeatable,
            unavailable: None,
        };
        let returns = definition.output_schema.as_ref().map(schema::compile).transpose()?;
        let Workshop { http, store, sealer, .. } = workshop.clone();
        let own = OwnTool::Http(definition.clone());
        Ok(Self { spec, own, definition: definition.clone(), http, store, sealer, returns })
    }

    async fn run(&self, call: ToolCall<'_>) -> Result<ToolOutput, ToolError> {
        let secrets =
            http_secrets(&self.definition).open(&self.store, &self.sealer, call.workspace_id).await?;
        let request = self.request(call, &secrets)?;
        let redaction = Redaction::of(&secrets).map_err(|error| ToolError::new("invalid_request", error))?;
        let time_ms = self.spec.timeout_ms;
        let limits = Limits {
            first_byte_ms: time_ms,
            between_bytes_ms: time_ms,
            total_ms: time_ms,
            max_body_bytes: MAX_BODY_BYTES,
            // Elsewhere its headers are nobody's business.
            max_redirects: 0,
            ..Limits::default()
        };
        let failed =
            |error: nh_http::HttpError| ToolError::new("request_failed", redaction.text(&error.to_string()));
        let response = self.http.send(request, limits).await.map_err(failed)?;
        let head = |name| {
            let value: String =
                response.header(name).unwrap_or_default().chars().take(MAX_HEAD_CHARS).collect();
            redaction.text(&value)
        };
        let (status, kind, location) = (response.status, head(CONTENT_TYPE), head(LOCATION));
        let body = response.bytes().await.map_err(failed)?;
        let said = Said::of(&String::from_utf8_lossy(&body), &redaction);
        if status.is_redirection() {
            let message =
                format!("the server answers {status} and points to {location}; register that address");
            return Err(ToolError::new("redirected", message));
        }
        if !status.is_success() {
            let said: String = said.text.chars().take(MAX_REFUSAL_CHARS).collect();
            let message = format!("the server answers {status}: {said}");
            return Err(ToolError::new(format!("http_{}", status.as_u16()), message));
        }
        self.output(status, &kind, said)
    }

    fn request(&self, call: ToolCall<'_>, secrets: &Secrets) -> Result<Request<Bytes>, ToolError> {
        let HttpTool { method, url, query, body, .. } = &self.definition;
        let mut rest = call.arguments.as_object().cloned().unwrap_or_default();
        let mut url = fill_url(url, call.arguments, &mut rest)?;
        let has_body = matches!(method, HttpMethod::Post | HttpMethod::Put | HttpMethod::Patch);
        let queried = match has_body {
            true => query.iter().filter_map(|name| Some((name.clone(), rest.remove(name)?))).collect(),
            false => std::mem::take(&mut rest),
        };
        add_query(&mut url, &queried);
        let body = match body {
            _ if !has_body => Bytes::new(),
            Some(argument) => rest.remove(argument).map_or_else(Bytes::new, |value| value.to_string().into()),
            None => Value::Object(rest).to_string().into(),
        };
        let wrong =
            |why: String| ToolError::new("invalid_request", format!("the request cannot be made: {why}"));
        let mut request = Request::builder().method(name_of(*method)).uri(url.as_str());
        request = request.header(ACCEPT, "application/json, text/*;q=0.9, */*;q=0.5");
        if has_body {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let mut request = request.body(body).map_err(|error| wrong(error.to_string()))?;
        request.headers_mut().extend(http_secrets(&self.definition).filled(secrets).map_err(wrong)?);
        // A step that is done again after a crash says that it is the same one.
        if let Ok(key) = HeaderValue::from_str(call.idempotency_key) {
            request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        }
        Ok(request)
    }

    fn output(&self, status: StatusCode, kind: &str, said: Said) -> Result<ToolOutput, ToolError> {
        let shown = cut(&said.text);
        let Some(returns) = &self.returns else {
            let body = said.json.unwrap_or_else(|| Value::String(shown.clone()));
            let value = json!({"status": status.as_u16(), "content_type": kind, "body": body});
            return Ok(ToolOutput::free(shown, value));
        };
        let invalid = |told: String| ToolError::new("invalid_output", told);
        let value = said.json.ok_or_else(|| invalid("what the server answers is no JSON".to_owned()))?;
        let faults = schema::faults(returns, &value);
        if !faults.is_empty() {
            let told = schema::told("output", &faults);
            return Err(invalid(format!("what the server answers does not fit the tool's schema: {told}")));
        }
        Ok(ToolOutput::free(shown, value))
    }
}

impl Tool for HttpCall {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn own(&self) -> Option<&OwnTool> {
        Some(&self.own)
    }

    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.run(call))
    }
}

/// A body without secrets.
struct Said {
    text: String,
    json: Option<Value>,
}

impl Said {
    fn of(body: &str, redaction: &Redaction) -> Self {
        let Ok(value) = serde_json::from_str::<Value>(body) else {
            return Self { text: redaction.text(body), json: None };
        };
        let json = redaction.value(value.clone());
        // As the server wrote it, where there was nothing to take out.
        let text = if json == value { redaction.text(body) } else { json.to_string() };
        Self { text, json: Some(json) }
    }
}

fn effects(method: HttpMethod) -> Effects {
    match method {
        HttpMethod::Get | HttpMethod::Head => Effects::READS_OUTSIDE,
        HttpMethod::Put | HttpMethod::Delete => Effects { open_world: true, ..Effects::REPLACES },
        HttpMethod::Post | HttpMethod::Patch => Effects::ANY,
    }
}

fn name_of(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
    }
}

/// What stands in the URL is taken out of `rest`.
fn fill_url(url: &str, arguments: &Value, rest: &mut Map<String, Value>) -> Result<String, ToolError> {
    let wrong = |message: String| ToolError::new("invalid_arguments", message);
    let mut filled = String::new();
    for part in parts(url).map_err(wrong)? {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Argument(name) => {
                rest.remove(name);
                let text = match &arguments[name] {
                    Value::Null => return Err(wrong(format!("`{name}` is missing; the address needs it"))),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                if text.is_empty() && !filled.contains('?') {
                    return Err(wrong(format!("`{name}` is empty, which no part of a path can be")));
                }
                filled.extend(utf8_percent_encode(&text, ESCAPED));
            }
            Part::Secret(name) => return Err(wrong(format!("the address names the secret `{name}`"))),
        }
    }
    let (path, fixed) = filled.split_once('?').unwrap_or((&filled, ""));
    if leads_elsewhere(path) {
        let message = "an argument would lead to another path: no part of it may be `.` or `..`";
        return Err(wrong(message.to_owned()));
    }
    // A server may take the last of two: what the tool says is not to be replaced.
    let is_fixed = |name: &&String| {
        let plain = name.split('[').next().unwrap_or_default();
        url::form_urlencoded::parse(fixed.as_bytes()).any(|(known, _)| known.split('[').next() == Some(plain))
    };
    if let Some(name) = rest.keys().find(is_fixed) {
        return Err(wrong(format!("`{name}` is set by the tool itself; leave it out")));
    }
    Ok(filled)
}

/// Whether a server that decodes once more than it should would see `.` or `..` in the path.
fn leads_elsewhere(path: &str) -> bool {
    let mut decoded = path.to_owned();
    for _ in 0..3 {
        if decoded.split(['/', '\\']).any(|segment| matches!(segment, "." | "..")) {
            return true;
        }
        decoded = percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
    }
    false
}

fn add_query(url: &mut String, rest: &Map<String, Value>) {
    let mut sign = if url.contains('?') { '&' } else { '?' };
    for (name, value) in rest {
        let values = match value {
            Value::Array(values) => values.iter().collect(),
            value => vec![value],
        };
        for value in values.into_iter().filter(|value| !value.is_null()) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            url.push(sign);
            url.extend(utf8_percent_encode(name, ESCAPED));
            url.push('=');
            url.extend(utf8_percent_encode(&text, ESCAPED));
            sign = '&';
        }
    }
}
