//! What can be called in a workspace, under one kind of name: its tools, agents and
//! workflows. `tools/list` of the Model Context Protocol, the manifest and `llms.txt` are
//! read from here, and a call finds here what to run.

use std::sync::Arc;

use nh_store::{StoreError, agents, workflows};
use nh_types::run::RunType;
use nh_types::tool::Effects;
use nh_types::{Page, PageRequest, Scope, ScopeSet, WorkspaceId};
use serde_json::{Map, Value};

use crate::hub::Hub;
use crate::pin;
use crate::target::Target;
use crate::tools::{ToolSpec, Tools};

/// Something that a caller may run by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Callable {
    /// `[A-Za-z0-9_.-]{1,128}`: a tool's own, or such as `run_agent_researcher`.
    pub name: String,
    /// What people call it, where that is another name.
    pub title: Option<String>,
    pub description: String,
    /// JSON Schema, draft 2020-12, of type object.
    pub input_schema: Value,
    /// Of what a run of it results in; None: a text, or anything.
    pub output_schema: Option<Value>,
    pub effects: Effects,
    pub target: Target,
}

/// All that the holder of these scopes may call: what is listed is what a call finds.
pub struct Catalogue<'h> {
    hub: &'h Hub,
    workspace_id: &'h WorkspaceId,
    scopes: &'h ScopeSet,
    tools: Tools,
}

enum Record {
    Agent(Arc<agents::AgentRecord>),
    Workflow(Arc<workflows::WorkflowRecord>),
}

/// Where a page begins: in one of the three lists, one after another.
enum Place {
    /// After the tool of this name.
    Tools(String),
    Agents(Option<String>),
    Workflows(Option<String>),
}

impl Hub {
    pub async fn catalogue<'h>(
        &'h self,
        workspace_id: &'h WorkspaceId,
        scopes: &'h ScopeSet,
    ) -> Result<Catalogue<'h>, StoreError> {
        Ok(Catalogue { hub: self, workspace_id, scopes, tools: self.tools_of(workspace_id).await? })
    }

    /// The tools that every workspace has, those too that do not work.
    pub fn builtins(&self) -> Vec<Callable> {
        let told = self.tools.list().map(|tool| {
            let mut callable = of_tool(tool.spec());
            if let Some(reason) = tool.unavailable() {
                callable.description = format!("{} Not available: {reason}.", callable.description);
            }
            callable
        });
        told.collect()
    }
}

impl Catalogue<'_> {
    /// Tools by their names, then agents and workflows, the newest first.
    pub async fn page(&self, page: &PageRequest) -> Result<Page<Callable>, StoreError> {
        let mut place = Place::parse(page.after.as_deref())?;
        let mut items = Vec::new();
        while items.len() < page.limit as usize {
            let room = page.limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
            let (found, next) = match place {
                Place::Tools(after) => self.tools_after(&after, room),
                Place::Agents(after) => self.agents_after(after, room).await?,
                Place::Workflows(after) => self.workflows_after(after, room).await?,
            };
            items.extend(found);
            match next {
                Some(next) => place = next,
                None => return Ok(Page { items, next: None }),
            }
        }
        Ok(Page { items, next: Some(place.to_text()) })
    }

    /// One that does not work is found, so that the call can be told why; None where the
    /// scopes do not allow it.
    pub async fn find(&self, name: &str) -> Result<Option<Callable>, StoreError> {
        if let Some(tool) = self.tools.get(name) {
            return Ok(self.may_call(tool.spec()).then(|| of_tool(tool.spec())));
        }
        for (kind, begins_with) in [(RunType::Agent, "run_agent"), (RunType::Workflow, "run_workflow")] {
            let Some(rest) = name.strip_prefix(begins_with) else { continue };
            if !self.may_run(kind) {
                return Ok(None);
            }
            let ids = match (rest.strip_prefix('.'), rest.strip_prefix('_')) {
                (Some(id), _) => vec![id.to_owned()],
                (_, Some(short)) => vec![format!("{kind}_{short}"), short.to_owned()],
                _ => Vec::new(),
            };
            for id in ids {
                if let Some(callable) = self.run(kind, &id).await?.filter(|found| found.name == name) {
                    return Ok(Some(callable));
                }
            }
        }
        Ok(None)
    }

    fn tools_after(&self, after: &str, room: u32) -> (Vec<Callable>, Option<Place>) {
        let rest = self.tools.list().filter(|tool| tool.spec().name.as_str() > after);
        let mut rest = rest
            .filter(|tool| tool.unavailable().is_none() && self.may_call(tool.spec()))
            .map(|tool| of_tool(tool.spec()));
        let found: Vec<_> = rest.by_ref().take(room as usize).collect();
        let last = found.last().filter(|_| rest.next().is_some());
        let next = last.map_or(Place::Agents(None), |last| Place::Tools(last.name.clone()));
        (found, Some(next))
    }

    async fn agents_after(
        &self,
        after: Option<String>,
        room: u32,
    ) -> Result<(Vec<Callable>, Option<Place>), StoreError> {
        if !self.may_run(RunType::Agent) {
            return Ok((Vec::new(), Some(Place::Workflows(None))));
        }
        let page = PageRequest { after, limit: room };
        let page = agents::list(&self.hub.store, self.workspace_id, &page).await?;
        let mut found = Vec::new();
        for record in &page.items {
            found.push(self.of_agent(record).await?);
        }
        let next = page.next.map_or(Place::Workflows(None), |next| Place::Agents(Some(next)));
        Ok((found, Some(next)))
    }

    async fn workflows_after(
        &self,
        after: Option<String>,
        room: u32,
    ) -> Result<(Vec<Callable>, Option<Place>), StoreError> {
        if !self.may_run(RunType::Workflow) {
            return Ok((Vec::new(), None));
        }
        let page = PageRequest { after, limit: room };
        let page = workflows::list(&self.hub.store, self.workspace_id, &page).await?;
        let mut found = Vec::new();
        for record in &page.items {
            found.extend(self.of_workflow(record).await?);
        }
        Ok((found, page.next.map(|next| Place::Workflows(Some(next)))))
    }

    async fn run(&self, kind: RunType, id: &str) -> Result<Option<Callable>, StoreError> {
        match self.record(kind, id).await? {
            Some(Record::Agent(record)) => self.of_agent(&record).await.map(Some),
            Some(Record::Workflow(record)) => self.of_workflow(&record).await,
            None => Ok(None),
        }
    }

    async fn record(&self, kind: RunType, id: &str) -> Result<Option<Record>, StoreError> {
        let (store, workspace_id) = (&self.hub.store, self.workspace_id);
        match kind {
            RunType::Agent => {
                let Ok(id) = id.parse() else { return Ok(None) };
                Ok(agents::current(store, workspace_id, &id).await?.map(Record::Agent))
            }
            RunType::Workflow => {
                let Ok(id) = id.parse() else { return Ok(None) };
                Ok(workflows::current(store, workspace_id, &id).await?.map(Record::Workflow))
            }
            RunType::Tool => Ok(None),
        }
    }

    async fn of_agent(&self, record: &agents::AgentRecord) -> Result<Callable, StoreError> {
        let agent = &record.definition;
        let target = Target::Agent(record.id.clone());
        Ok(Callable {
            name: self.name_of(&target).await?,
            title: Some(agent.name.clone()),
            description: described(&agent.description, || format!("Runs the agent {}.", agent.name)),
            input_schema: pin::agent_schema(),
            output_schema: agent.output_schema.clone(),
            effects: Effects::ANY,
            target,
        })
    }

    /// Arguments are an object: one that takes none is run by its id alone.
    async fn of_workflow(&self, record: &workflows::WorkflowRecord) -> Result<Option<Callable>, StoreError> {
        let workflow = &record.definition;
        let Some(input_schema) = of_objects(workflow.input_schema.as_ref()) else { return Ok(None) };
        let target = Target::Workflow(record.id.clone());
        Ok(Some(Callable {
            name: self.name_of(&target).await?,
            title: Some(workflow.name.clone()),
            description: described(&workflow.description, || format!("Runs the workflow {}.", workflow.name)),
            input_schema,
            output_schema: None,
            effects: Effects::ANY,
            target,
        }))
    }

    /// `run_agent_researcher` for `agent_researcher` and for `researcher`; where both are there,
    /// `run_agent.researcher` for the second. No tool has such a name.
    async fn name_of(&self, target: &Target) -> Result<String, StoreError> {
        let (kind, id) = (target.run_type(), target.name());
        let prefix = format!("{kind}_");
        let (short, twin) = match id.strip_prefix(&prefix).filter(|rest| !rest.is_empty()) {
            Some(rest) => (rest, None),
            None => (id, Some(format!("{prefix}{id}"))),
        };
        let is_taken = match twin {
            Some(twin) => self.record(kind, &twin).await?.is_some(),
            None => false,
        };
        Ok(if is_taken { format!("run_{kind}.{id}") } else { format!("run_{kind}_{short}") })
    }

    /// As a run of type `tool` is held to.
    fn may_call(&self, spec: &ToolSpec) -> bool {
        let needed = [Scope::RunWrite, Scope::ToolsCall].into_iter().chain(spec.scopes.iter().copied());
        needed.into_iter().all(|scope| self.scopes.allows(scope))
    }

    /// Who may not read agents does not learn their names from a list of tools.
    fn may_run(&self, kind: RunType) -> bool {
        self.scopes.allows(Scope::RunWrite)
            && (kind != RunType::Agent || self.scopes.allows(Scope::AgentsRead))
    }
}

fn of_tool(spec: &ToolSpec) -> Callable {
    Callable {
        name: spec.name.clone(),
        title: None,
        description: described(&spec.description, || format!("The tool {}.", spec.name)),
        input_schema: spec.input_schema.clone(),
        output_schema: spec.output_schema.clone(),
        effects: spec.effects,
        target: Target::Tool(spec.name.clone()),
    }
}

/// The schema, of type `object` in so many words; None where it allows no object.
fn of_objects(schema: Option<&Value>) -> Option<Value> {
    let mut schema = match schema {
        Some(Value::Object(schema)) => schema.clone(),
        Some(Value::Bool(false)) => return None,
        _ => Map::new(),
    };
    let may_be = match schema.get("type") {
        None => true,
        Some(Value::Array(types)) => types.iter().any(|one| one == "object"),
        Some(one) => one == "object",
    };
    schema.insert("type".to_owned(), "object".into());
    may_be.then_some(Value::Object(schema))
}

fn described(description: &str, otherwise: impl FnOnce() -> String) -> String {
    if description.trim().is_empty() { otherwise() } else { description.to_owned() }
}

impl Place {
    fn parse(text: Option<&str>) -> Result<Self, StoreError> {
        let Some(text) = text else { return Ok(Self::Tools(String::new())) };
        let after = |rest: &str| Some(rest.to_owned()).filter(|rest| !rest.is_empty());
        match text.split_once(':') {
            Some(("tools", name)) => Ok(Self::Tools(name.to_owned())),
            Some(("agents", rest)) => Ok(Self::Agents(after(rest))),
            Some(("workflows", rest)) => Ok(Self::Workflows(after(rest))),
            _ => Err(StoreError::InvalidCursor(text.chars().take(80).collect())),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Tools(name) => format!("tools:{name}"),
            Self::Agents(after) => format!("agents:{}", after.as_deref().unwrap_or_default()),
            Self::Workflows(after) => format!("workflows:{}", after.as_deref().unwrap_or_default()),
        }
    }
}
