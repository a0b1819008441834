use std::sync::Arc;

use http::HeaderMap;
use nh_types::{PageRequest, Scope};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, ExtensionCapabilities, GetPromptRequestParams,
    GetPromptResponse, GetTaskParams, GetTaskResult, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig, TASKS_EXTENSION_ID,
    Tool, UpdateTaskParams,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::shown::{self, refused};
use super::{call, prompts, resources, tasks};
use crate::app::App;
use crate::auth::Principal;
use crate::failure::Answer;
use crate::paging::{open_cursor, seal_cursor};

/// What a page holds: most workspaces have all on one, which matters to clients that ask
/// for no second one.
const PAGE: u32 = 500;
const INSTRUCTIONS: &str = "The tools, agents and workflows of one NeuralHub workspace. Each call is a durable \
    run; `run_agent_…` and `run_workflow_…` may take minutes, and go on when the connection ends. Resources \
    are what the workspace remembers, its files and its runs.";

/// Answers one request of one caller.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) app: Arc<App>,
    pub(super) principal: Arc<Principal>,
    /// The tool that is called, where the headers name it.
    called: Option<Tool>,
}

impl Server {
    /// The tool has to be known before its call is: its schema says which of the arguments
    /// come in headers too.
    pub(super) async fn new(app: Arc<App>, principal: Arc<Principal>, headers: &HeaderMap) -> Answer<Self> {
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut server = Self { app, principal, called: None };
        if let (Some("tools/call"), Some(name)) = (said("mcp-method"), said("mcp-name")) {
            server.called = server.find(name).await?.map(shown::tool);
        }
        Ok(server)
    }

    pub(super) async fn find(&self, name: &str) -> Answer<Option<nh_agents::Callable>> {
        let Principal { workspace_id, scopes, .. } = &*self.principal;
        Ok(self.app.hub.catalogue(workspace_id, scopes).await?.find(name).await?)
    }

    async fn tools(&self, page: PageRequest) -> Answer<ListToolsResult> {
        let Principal { workspace_id, scopes, .. } = &*self.principal;
        let page = self.app.hub.catalogue(workspace_id, scopes).await?.page(&page).await?;
        let mut tools = ListToolsResult::with_all_items(page.items.into_iter().map(shown::tool).collect());
        tools.next_cursor = page.next.as_deref().map(seal_cursor);
        Ok(tools)
    }

    /// Whether the key may do this; lists leave out what it may not.
    pub(super) fn may(&self, scope: Scope) -> bool {
        self.principal.scopes.allows(scope)
    }
}

fn page(request: Option<PaginatedRequestParams>) -> Answer<PageRequest> {
    let after = request.and_then(|request| request.cursor).map(|cursor| open_cursor(&cursor)).transpose()?;
    Ok(PageRequest { limit: PAGE, after })
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let extensions =
            ExtensionCapabilities::from_iter([(TASKS_EXTENSION_ID.to_owned(), serde_json::Map::new())]);
        let capabilities = ServerCapabilities::builder()
            .enable_extensions_with(extensions)
            .enable_prompts()
            .enable_resources()
            .enable_tools()
            .build();
        let itself = Implementation::new("neuralhub", env!("CARGO_PKG_VERSION")).with_title("NeuralHub");
        ServerConfig::new(capabilities).with_server_info(itself).with_instructions(INSTRUCTIONS)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.called.clone().filter(|tool| tool.name == name)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.tools(page(request).map_err(refused)?).await.map_err(refused)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        call::call(self, request, context).await
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        resources::list(self, page(request).map_err(refused)?).await.map_err(refused)
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates(self)))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        Ok(resources::read(self, &request.uri).await?.into())
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        prompts::list(self, page(request).map_err(refused)?).await.map_err(refused)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        Ok(prompts::get(self, request).await?.into())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        tasks::get(self, &request.task_id).await
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        tasks::update(self, request).await
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        tasks::cancel(self, &request.task_id).await
    }
}
