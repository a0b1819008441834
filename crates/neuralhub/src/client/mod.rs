//! A client of the hub's API, for the commands that talk to a running hub.

mod events;

use std::borrow::Cow;
use std::path::Path;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use nh_http::{Limits, Outbound, Response};
use nh_types::error::ErrorDetail;
use nh_types::{ErrorBody, ErrorType};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

pub use events::Follow;

use crate::cli::ClientArgs;
use crate::exit::Failure;

/// The server's own limits are tighter; these only end a client that hangs.
const LIMITS: Limits = Limits {
    connect_ms: 5_000,
    first_byte_ms: 330_000,
    between_bytes_ms: 120_000,
    total_ms: 3_600_000,
    max_body_bytes: 64 * 1024 * 1024,
    max_redirects: 0,
};

/// Of an answer that goes on for as long as there is something to tell.
const EXPORT_LIMITS: Limits = Limits { total_ms: 86_400_000, max_body_bytes: 1 << 40, ..LIMITS };

/// Why no key can be found, for those who have none.
const NO_KEY: &str = "no API key: pass --key, set NEURALHUB_API_KEY, or name with --data-dir where \
                      the hub on this machine keeps its data (it holds `first-key`)";

/// What a request carries.
pub struct Body {
    pub content_type: Cow<'static, str>,
    pub bytes: Bytes,
}

impl From<&Value> for Body {
    fn from(value: &Value) -> Self {
        Self { content_type: "application/json".into(), bytes: Bytes::from(value.to_string()) }
    }
}

#[derive(Clone)]
pub struct Client {
    http: Outbound,
    base: Url,
    key: Option<SecretString>,
}

impl Client {
    /// With the key that was given, else the first key of a hub on this
    /// machine. The first key is sent to no other machine.
    pub fn new(arguments: &ClientArgs) -> Result<Self, Failure> {
        let url = &arguments.remote.url;
        let given = arguments.remote.key.clone().filter(|key| !key.is_empty());
        let key = match given {
            Some(key) => Some(key),
            None if is_loopback(url) => first_key(&arguments.data_dir),
            None => None,
        };
        let http = Outbound::operator().map_err(anyhow::Error::new)?;
        Ok(Self { http, base: url.clone(), key: key.map(SecretString::from) })
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read(self.send(Method::GET, path, None, &[]).await?).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        self.upload(Method::POST, path, body.into()).await
    }

    /// Sends a body as it is.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<T, Failure> {
        read(self.send(method, path, Some(body), &[]).await?).await
    }

    /// As `upload`; what is sent again under the same key is done once.
    pub async fn upload_once<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Body,
        key: &str,
    ) -> Result<T, Failure> {
        let header = header::HeaderName::from_static("idempotency-key");
        read(self.send(Method::POST, path, Some(body), &[(header, key)]).await?).await
    }

    /// As `post`, and whether the hub made something new (201).
    pub async fn create<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<(T, bool), Failure> {
        let response = self.send(Method::POST, path, Some(body.into()), &[]).await?;
        let is_new = response.status == StatusCode::CREATED;
        Ok((read(response).await?, is_new))
    }

    /// Sends bytes to be kept; nothing is answered.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), Failure> {
        let body = Body { content_type: Cow::Borrowed("application/octet-stream"), bytes };
        self.send(Method::PUT, path, Some(body), &[]).await.map(drop)
    }

    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(Method::DELETE, path, None, &[]).await.map(drop)
    }

    /// Deletes what a query names, and reads what the hub tells of it.
    pub async fn delete_which<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read(self.send(Method::DELETE, path, None, &[]).await?).await
    }

    /// An answer whose body is read as it comes.
    pub async fn download(
        &self,
        path: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Response, Failure> {
        self.send_within(EXPORT_LIMITS, Method::GET, path, None, headers).await
    }

    /// The answer to a public operation, whatever its status.
    pub async fn probe(&self, path: &str) -> Result<(u16, String), Failure> {
        let response = self.exchange(LIMITS, Method::GET, path, None, &[]).await?;
        Ok((response.status.as_u16(), response.text().await.map_err(anyhow::Error::new)?))
    }

    /// The answer to a message in JSON, whatever its status.
    pub async fn speak(
        &self,
        path: &str,
        message: Vec<u8>,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Response, Failure> {
        let body = Body { content_type: Cow::Borrowed("application/json"), bytes: message.into() };
        self.exchange(LIMITS, Method::POST, path, Some(body), headers).await
    }

    /// For who would learn too late that there is none.
    pub fn require_key(&self) -> Result<(), Failure> {
        if self.key.is_none() { Err(Failure::Usage(NO_KEY.to_owned())) } else { Ok(()) }
    }

    /// A successful answer; any other is a [`Failure`].
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Body>,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Response, Failure> {
        self.send_within(LIMITS, method, path, body, headers).await
    }

    async fn send_within(
        &self,
        limits: Limits,
        method: Method,
        path: &str,
        body: Option<Body>,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Response, Failure> {
        self.require_key()?;
        let response = self.exchange(limits, method, path, body, headers).await?;
        if response.status.is_success() { Ok(response) } else { Err(refused(response).await) }
    }

    async fn exchange(
        &self,
        limits: Limits,
        method: Method,
        path: &str,
        body: Option<Body>,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Response, Failure> {
        let base = self.base.as_str().trim_end_matches('/');
        let mut request = Request::builder().method(method).uri(format!("{base}{path}"));
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose_secret()));
        }
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let bytes = match body {
            Some(Body { content_type, bytes }) => {
                request = request.header(header::CONTENT_TYPE, content_type.as_ref());
                bytes
            }
            None => Bytes::new(),
        };
        let request = request.body(bytes).map_err(|error| Failure::Usage(error.to_string()))?;
        self.http
            .send(request, limits)
            .await
            .map_err(|source| Failure::Unreachable { url: base.to_owned(), source })
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, Failure> {
    let bytes = response.bytes().await.map_err(anyhow::Error::new)?;
    let value = serde_json::from_slice(&bytes);
    value.map_err(|error| anyhow::Error::new(error).context("the hub's answer cannot be read").into())
}

async fn refused(response: Response) -> Failure {
    let status = response.status.as_u16();
    let retry_after_seconds = response.header(header::RETRY_AFTER).and_then(|after| after.parse().ok());
    let text = response.text().await.unwrap_or_default();
    let body = serde_json::from_str(&text).unwrap_or_else(|_| foreign(status));
    Failure::Refused { status, body: Box::new(body), retry_after_seconds }
}

/// What is said of an answer that no hub would give.
fn foreign(status: u16) -> ErrorBody {
    let message = "what answers there is not a hub, or something stands between".to_owned();
    let code = format!("http_{status}");
    let error =
        ErrorDetail { message, error_type: ErrorType::ServerError, code, param: None, request_id: None };
    ErrorBody { error }
}

fn first_key(data_dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data_dir.join("first-key")).ok()?;
    Some(text.trim().to_owned()).filter(|key| !key.is_empty())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A part of a path, so that an id cannot become another path.
pub fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// A path with those of the parameters that were given.
pub fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}
