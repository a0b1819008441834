//! The `[server]` and `[security]` sections of the configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

/// How the hub listens, and what it takes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port to listen on. On a loopback address the `Host` of
    /// each request is checked, so that no web page reaches the hub by
    /// rebinding its DNS name.
    #[schema(value_type = String, example = "127.0.0.1:8080")]
    pub bind: SocketAddr,
    /// Where clients reach the hub: what goes into `url` fields and cookies.
    /// Browser sessions need it unless `bind` is a loopback address.
    #[schema(value_type = Option<String>, example = "https://hub.example.com")]
    pub public_url: Option<Url>,
    /// A second address for `/metrics` alone, without a credential. Absent:
    /// metrics are only on the main port, for keys with `usage:read`.
    #[schema(value_type = Option<String>, example = "127.0.0.1:9090")]
    pub metrics_bind: Option<SocketAddr>,
    /// The largest request body, in bytes.
    #[schema(minimum = 1024, maximum = 1073741824)]
    pub max_body_bytes: usize,
    /// How long a client may take to send a request's body, in milliseconds.
    #[schema(minimum = 100, maximum = 600000)]
    pub body_timeout_ms: u64,
    /// How long a connection is given for a request's headers, in
    /// milliseconds. An idle connection is closed after so long too.
    #[schema(minimum = 100, maximum = 600000)]
    pub header_timeout_ms: u64,
    /// Connections served at a time; more wait in the system's backlog.
    #[schema(minimum = 1, maximum = 1000000)]
    pub max_connections: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            public_url: None,
            metrics_bind: None,
            max_body_bytes: 10 * 1000 * 1000,
            body_timeout_ms: 30_000,
            header_timeout_ms: 75_000,
            max_connections: 10_000,
        }
    }
}

/// Where the master key is that seals secrets at rest.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecuritySettings {
    /// A file of 32 bytes. Absent on SQLite: `master.key` in the data
    /// directory, made at first start. On PostgreSQL it must be given.
    #[schema(value_type = Option<String>)]
    pub master_key_file: Option<PathBuf>,
    /// Files of earlier master keys. What they sealed is sealed anew at start.
    #[schema(value_type = Vec<String>)]
    pub old_master_key_files: Vec<PathBuf>,
}
