use std::sync::Arc;

use nh_agents::Callable;
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
use crate::body_room::Room;
use crate::failure::Answer;
use crate::paging::{open_cursor, seal_cursor};

/// What a page holds: most workspaces have all on one, which matters to clients that ask
/// for no second one.
const PAGE: u32 = 500;
/// Memories are read whole to be listed.
const RESOURCES_PAGE: u32 = 100;
const INSTRUCTIONS: &str = "The tools, agents and workflows of one NeuralHub workspace. Each call is a durable \
    run; `run_agent_…` and `run_workflow_…` may take minutes, and go on when the connection ends. Resources \
    are what the workspace remembers, its files and its runs.";

/// Answers one request of one caller.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) app: Arc<App>,
    pub(super) principal: Arc<Principal>,
    /// What is called, if it is there.
    called: Option<Callable>,
    /// The memory of the message: the SDK may go on with it when its connection has ended.
    _room: Option<Arc<Room>>,
}

impl Server {
    /// What is called has to be known before its call is read: its schema says which of the
    /// arguments come in headers too.
    pub(super) async fn new(
        app: Arc<App>,
        principal: Arc<Principal>,
        called: Option<&str>,
        room: Option<Room>,
    ) -> Answer<Self> {
        let mut server = Self { app, principal, called: None, _room: room.map(Arc::new) };
        if let Some(name) = called {
            server.called = server.find(name).await?;
        }
        Ok(server)
    }

    /// In a session, each call finds its own.
    pub(super) async fn callable(&self, name: &str) -> Answer<Option<Callable>> {
        match &self.called {
            Some(called) if called.name == name => Ok(Some(called.clone())),
            _ => self.find(name).await,
        }
    }

    async fn find(&self, name: &str) -> Answer<Option<Callable>> {
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

fn page(request: Option<PaginatedRequestParams>, limit: u32) -> Answer<PageRequest> {
    let after = request.and_then(|request| request.cursor).map(|cursor| open_cursor(&cursor)).transpose()?;
    Ok(PageRequest { limit, after })
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
        self.called.clone().filter(|called| called.name == name).map(shown::tool)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.tools(page(request, PAGE).map_err(refused)?).await.map_err(refused)
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
        resources::list(self, page(request, RESOURCES_PAGE).map_err(refused)?).await.map_err(refused)
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
        prompts::list(self, page(request, PAGE).map_err(refused)?).await.map_err(refused)
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
