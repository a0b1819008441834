use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::handler::client::ClientHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, ClientRequest, Implementation,
    ListToolsRequest, PaginatedRequestParams, ProtocolVersion, ServerResult,
};
use rmcp::service::ClientLifecycleMode;
use rmcp::service::{
    NotificationContext, PeerRequestOptions, RoleClient, RunningService, serve_client_with_lifecycle_and_ct,
};
use rmcp::transport::Transport;
use rmcp::transport::common::client_side_sse::FixedInterval;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::error::{McpError, said};
use crate::local::{LastWords, LocalServer, Process};
use crate::remote::{RemoteServer, Wire};
use crate::tool::{Called, Listed, OfferedTool};

/// A program may be fetched when it is started for the first time.
const LOCAL_START: Duration = Duration::from_secs(60);
const REMOTE_START: Duration = Duration::from_secs(20);
const LIST: Duration = Duration::from_secs(20);
const MAX_PAGES: usize = 50;
const MAX_TOOLS: usize = 250;
/// Of all schemas and words of a list.
const MAX_LIST_BYTES: usize = 1_000_000;
/// In a row, to go on with an answer that was cut off.
const MAX_RETRIES: usize = 3;

/// A session with a server. It ends when it is dropped; a program is then told to end, and made
/// to if it does not.
pub struct Session {
    service: RunningService<RoleClient, Client>,
    list_changed: Arc<AtomicBool>,
    _end: DropGuard,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("is_closed", &self.is_closed()).finish_non_exhaustive()
    }
}

/// What the hub is to a server: one that calls tools, and can do nothing for it.
struct Client {
    list_changed: Arc<AtomicBool>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let me = Implementation::new("neuralhub", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), me)
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.list_changed.store(true, Ordering::Relaxed);
    }
}

impl Session {
    pub async fn with_remote(server: RemoteServer) -> Result<Self, McpError> {
        let mut config = StreamableHttpClientTransportConfig::with_uri(server.url.clone());
        let mut retries = FixedInterval::default();
        retries.max_times = Some(MAX_RETRIES);
        config.retry_config = Arc::new(retries);
        let transport = StreamableHttpClientTransport::with_client(Wire::to(server), config);
        Self::start(transport, REMOTE_START, CancellationToken::new()).await
    }

    /// Starts the program. What watches it runs on `tasks` until it has ended.
    pub async fn with_local(server: &LocalServer, tasks: &TaskTracker) -> Result<Self, McpError> {
        let (end, said_last) = (CancellationToken::new(), LastWords::default());
        let started = Process::start(server, end.clone(), said_last.clone(), tasks);
        let transport = started.map_err(McpError::Unreachable)?;
        let session = Self::start(transport, LOCAL_START, end).await;
        session.map_err(|error| match (error, said_last.text()) {
            (McpError::Unreachable(why), words) if !words.is_empty() => {
                McpError::Unreachable(said(&format!("{why}; its last words were: {words}")))
            }
            (error, _) => error,
        })
    }

    async fn start<T>(transport: T, within: Duration, end: CancellationToken) -> Result<Self, McpError>
    where
        T: Transport<RoleClient> + 'static,
    {
        let guard = end.clone().drop_guard();
        let list_changed = Arc::new(AtomicBool::new(false));
        let client = Client { list_changed: list_changed.clone() };
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        };
        let starting = serve_client_with_lifecycle_and_ct(client, transport, lifecycle, end);
        let started = timeout(within, starting).await.map_err(|_| McpError::late(within))?;
        let service = started.map_err(|error| McpError::of_start(&error))?;
        Ok(Self { service, list_changed, _end: guard })
    }

    /// It can be used no more.
    pub fn is_closed(&self) -> bool {
        self.service.is_closed() || self.service.is_transport_closed()
    }

    /// Whether the server said that its tools are others than those that were listed last.
    pub fn is_list_changed(&self) -> bool {
        self.list_changed.load(Ordering::Relaxed)
    }

    /// What the server calls itself, and the protocol's revision that is spoken.
    pub fn about(&self) -> (Option<String>, Option<String>) {
        let Some(peer) = self.service.peer_info() else { return (None, None) };
        let name =
            peer.server_info.as_ref().map(|server| said(&format!("{} {}", server.name, server.version)));
        (name, Some(said(&peer.protocol_version)))
    }

    /// All tools, page by page. More than 250 of them, or than 1 MB, are not taken.
    pub async fn tools(&self) -> Result<Listed, McpError> {
        self.list_changed.store(false, Ordering::Relaxed);
        let deadline = Instant::now() + LIST;
        let (mut tools, mut bytes, mut cursor) = (Vec::new(), 0, None);
        for _ in 0..MAX_PAGES {
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            let request = ListToolsRequest {
                method: Default::default(),
                params: Some(params),
                extensions: Default::default(),
            };
            let options =
                PeerRequestOptions::with_timeout(deadline.saturating_duration_since(Instant::now()));
            let request = ClientRequest::ListToolsRequest(request);
            let asking = async {
                self.service.send_request_with_option(request, options).await?.await_response().await
            };
            let ServerResult::ListToolsResult(page) = asking.await.map_err(McpError::of_request)? else {
                return Err(McpError::Broken("its list of tools is none".to_owned()));
            };
            for tool in page.tools {
                let tool = OfferedTool::from(tool);
                let output = tool.output_schema.as_ref().map_or(0, |schema| schema.to_string().len());
                bytes +=
                    tool.name.len() + tool.description.len() + tool.input_schema.to_string().len() + output;
                if tools.len() == MAX_TOOLS || bytes > MAX_LIST_BYTES {
                    return Ok(Listed { tools, left_out: true });
                }
                tools.push(tool);
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(Listed { tools, left_out: false });
            }
        }
        Ok(Listed { tools, left_out: true })
    }

    /// The server is told to stop where the wait ends first, or where the call is dropped.
    pub async fn call(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
        within: Duration,
    ) -> Result<Called, McpError> {
        let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let answer = timeout(within, self.service.call_tool_once(request)).await;
        match answer.map_err(|_| McpError::late(within))?.map_err(McpError::of_request)? {
            CallToolResponse::Complete(result) => Ok(Called::from(result)),
            CallToolResponse::InputRequired(_) => Err(McpError::AsksForInput),
            _ => Err(McpError::Broken("it makes a task of a call that asked for none".to_owned())),
        }
    }
}
