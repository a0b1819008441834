//! What may stand in a workflow: the checks behind `POST` and
//! `PATCH /v1/workflows`.

use nh_store::workflows::WorkflowRecord;
use nh_store::{Store, agents, workflows};
use nh_types::workflow::{ChangeWorkflow, CreateWorkflow, WorkflowDefinition, WorkflowView};
use nh_types::{ApiError, ErrorCode, WorkflowId, WorkspaceId};
use serde_json::json;

use crate::hub::HubError;
use crate::pin::agent_schema;
use crate::target::Target;
use crate::tools::Tools;
use crate::workflow::check::{Schemas, check};
use crate::workflow::plan::{Fault, MAX_STEPS};

const MAX_NAME_CHARS: usize = 128;
const MAX_DESCRIPTION_CHARS: usize = 4096;
/// A run keeps it whole.
const MAX_BYTES: usize = 256 * 1024;

pub fn created(new: CreateWorkflow) -> WorkflowDefinition {
    WorkflowDefinition {
        name: new.name,
        description: new.description.unwrap_or_default(),
        input_schema: new.input_schema,
        steps: new.steps,
        output: new.output,
    }
}

/// `now` with the change made to it.
pub fn changed(now: &WorkflowDefinition, change: ChangeWorkflow) -> WorkflowDefinition {
    WorkflowDefinition {
        name: change.name.unwrap_or_else(|| now.name.clone()),
        description: change.description.map_or_else(|| now.description.clone(), Option::unwrap_or_default),
        input_schema: change.input_schema.unwrap_or_else(|| now.input_schema.clone()),
        steps: change.steps.unwrap_or_else(|| now.steps.clone()),
        output: change.output.unwrap_or_else(|| now.output.clone()),
    }
}

/// All that can be known to be wrong before a run.
pub async fn checked(
    store: &Store,
    tools: &Tools,
    workspace_id: &WorkspaceId,
    id: &WorkflowId,
    workflow: WorkflowDefinition,
) -> Result<WorkflowDefinition, HubError> {
    check_texts(&workflow)?;
    let schemas = schemas(store, tools, workspace_id, id, &workflow).await?;
    check(&workflow, &schemas).map_err(refused)?;
    Ok(workflow)
}

fn check_texts(workflow: &WorkflowDefinition) -> Result<(), ApiError> {
    let of = |field: &str, text: &str, least: usize, most: usize| {
        let chars = text.chars().count();
        if (least..=most).contains(&chars) {
            return Ok(());
        }
        let message = format!("it has {chars} characters; it must have {least} to {most}");
        Err(refused(Fault::new(field, message)))
    };
    of("name", &workflow.name, 1, MAX_NAME_CHARS)?;
    of("description", &workflow.description, 0, MAX_DESCRIPTION_CHARS)?;
    let json = serde_json::to_string(workflow).unwrap_or_default();
    if json.len() > MAX_BYTES {
        let message = format!("the workflow has {} bytes as JSON; at most {MAX_BYTES} fit", json.len());
        return Err(refused(Fault::new("steps", message)));
    }
    // PostgreSQL's text cannot hold it.
    if json.contains("\\u0000") {
        return Err(refused(Fault::new("steps", "the workflow holds a NUL character; leave it out")));
    }
    Ok(())
}

/// What the targets of the steps take; one that is not there is refused.
async fn schemas(
    store: &Store,
    tools: &Tools,
    workspace_id: &WorkspaceId,
    id: &WorkflowId,
    workflow: &WorkflowDefinition,
) -> Result<Schemas, HubError> {
    let mut schemas = Schemas::new();
    for (place, step) in workflow.steps.iter().enumerate().take(MAX_STEPS) {
        let Some(target) = Target::parse(&step.uses).filter(|_| !schemas.contains_key(&step.uses)) else {
            continue;
        };
        let schema = match &target {
            Target::Tool(name) => tools.get(name).map(|tool| tool.spec().input_schema.clone()),
            // `messages` may stand in place of `goal`, and is looked at when it comes.
            Target::Agent(agent) => agents::current(store, workspace_id, agent).await?.map(|_| {
                if step.with.contains_key("messages") { json!({"type": "object"}) } else { agent_schema() }
            }),
            Target::Workflow(other) if other == id => {
                let message = format!("`{target}` is this workflow itself; it would never end");
                return Err(refused(Fault::new(format!("steps[{place}].uses"), message)).into());
            }
            Target::Workflow(other) => workflows::current(store, workspace_id, other).await?.map(|found| {
                found.definition.input_schema.clone().unwrap_or_else(|| json!({"type": "object"}))
            }),
        };
        let Some(schema) = schema else {
            let message = match &target {
                Target::Tool(_) => format!("there is no `{target}`; the tools are {}", tools.names()),
                _ => format!("there is no `{target}` in this workspace"),
            };
            return Err(refused(Fault::new(format!("steps[{place}].uses"), message)).into());
        };
        schemas.insert(step.uses.clone(), schema);
    }
    Ok(schemas)
}

fn refused(Fault { place, message }: Fault) -> ApiError {
    ApiError::new(ErrorCode::InvalidValue, format!("`{place}`: {message}")).param(place)
}

pub fn view(record: WorkflowRecord) -> WorkflowView {
    WorkflowView {
        id: record.id,
        definition: record.definition,
        created_at: record.created_at,
        updated_at: record.updated_at,
        version: record.version,
    }
}
