//! The `[telemetry]` section, and the variables of OpenTelemetry behind it.

use http::{HeaderName, HeaderValue};
use nh_types::settings::{SettingsFault, redacted};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const DEFAULT_SERVICE_NAME: &str = "neuralhub";

/// Traces for OpenTelemetry. They hold ids, names, numbers and times, never what is said to
/// a model or a tool, or what came of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The OTLP/HTTP receiver that spans are sent to, such as `http://127.0.0.1:4318`;
    /// `/v1/traces` is put behind it. Absent: `OTEL_EXPORTER_OTLP_ENDPOINT`, and without that
    /// no spans are made.
    #[schema(value_type = Option<String>)]
    pub otlp_endpoint: Option<Url>,
    /// Headers to send with them, such as `authorization=Bearer%20TOKEN,x-team=hub`. Absent:
    /// `OTEL_EXPORTER_OTLP_HEADERS`.
    #[serde(serialize_with = "redacted")]
    #[schema(value_type = Option<String>, default = json!(null))]
    pub otlp_headers: Option<SecretString>,
    /// What the hub is called in them. Absent: `OTEL_SERVICE_NAME`, else `neuralhub`.
    pub service_name: Option<String>,
    /// The share of traces that are sent, from 0 to 1. It is one choice for all spans of a run,
    /// whichever process makes them. A request that brings a `traceparent` follows that.
    #[schema(minimum = 0, maximum = 1)]
    pub sample_ratio: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { otlp_endpoint: None, otlp_headers: None, service_name: None, sample_ratio: 1.0 }
    }
}

/// Where spans go, and under which name.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Of `/v1/traces` itself.
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) service_name: String,
    pub(crate) sample_ratio: f64,
}

impl Collector {
    /// None: spans go nowhere.
    pub fn resolve(
        settings: &TelemetrySettings,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, SettingsFault> {
        let variable = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let (at, endpoint) = match (&settings.otlp_endpoint, variable(ENDPOINT)) {
            (Some(url), _) => ("telemetry.otlp_endpoint", Ok(url.clone())),
            (None, Some(text)) => (ENDPOINT, text.trim().parse()),
            (None, None) => return Ok(None),
        };
        let fault = |message: String| SettingsFault { at: at.to_owned(), message };
        let url = endpoint.ok().and_then(|url: Url| traces_url(&url)).ok_or_else(|| {
            fault("should be the http:// or https:// address of an OTLP/HTTP receiver, such as http://127.0.0.1:4318, \
                   without a user name or a password (put those into `otlp_headers`)".to_owned())
        })?;
        let headers = match (&settings.otlp_headers, variable(HEADERS)) {
            (Some(given), _) => headers("telemetry.otlp_headers", given.expose_secret())?,
            (None, Some(given)) => headers(HEADERS, &given)?,
            (None, None) => Vec::new(),
        };
        let service_name = settings.service_name.clone().or_else(|| variable(SERVICE_NAME));
        let service_name = service_name.unwrap_or_else(|| DEFAULT_SERVICE_NAME.to_owned());
        Ok(Some(Self { url, headers, service_name, sample_ratio: settings.sample_ratio }))
    }
}

fn traces_url(endpoint: &Url) -> Option<Url> {
    let has_credential = !endpoint.username().is_empty() || endpoint.password().is_some();
    if !matches!(endpoint.scheme(), "http" | "https") || has_credential {
        return None;
    }
    let mut url = endpoint.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend(["v1", "traces"]);
    Some(url)
}

/// `name=value,name=value`, the values percent-encoded. A fault does not repeat
/// what may be a secret.
fn headers(at: &str, given: &str) -> Result<Vec<(HeaderName, HeaderValue)>, SettingsFault> {
    let parts = given.split(',').map(str::trim).enumerate().filter(|(_, part)| !part.is_empty());
    parts
        .map(|(place, part)| {
            header(part).ok_or_else(|| SettingsFault {
                at: at.to_owned(),
                message: format!("header {} of it is not of the form name=value", place + 1),
            })
        })
        .collect()
}

fn header(part: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = part.split_once('=')?;
    let value: Vec<u8> = percent_decode_str(value.trim()).collect();
    let mut value = HeaderValue::from_bytes(&value).ok()?;
    value.set_sensitive(true);
    Some((name.trim().parse().ok()?, value))
}
