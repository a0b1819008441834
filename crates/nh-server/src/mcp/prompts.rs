//! The agents' prompts: a person's own client may be told to be one of them.

use nh_store::agents::{self, AgentRecord};
use nh_types::{PageRequest, Scope};
use rmcp::ErrorData;
use rmcp::model::{
    GetPromptRequestParams, GetPromptResult, ListPromptsResult, Prompt, PromptArgument, PromptMessage, Role,
};

use super::server::Server;
use super::shown::refused;
use crate::failure::Answer;
use crate::paging::seal_cursor;

const GOAL: &str = "goal";

pub(super) async fn list(server: &Server, page: PageRequest) -> Answer<ListPromptsResult> {
    if !server.may(Scope::AgentsRead) {
        return Ok(ListPromptsResult::default());
    }
    let found = agents::list(&server.app.hub.store, &server.principal.workspace_id, &page).await?;
    let mut listed = ListPromptsResult::with_all_items(found.items.iter().map(prompt).collect());
    listed.next_cursor = found.next.as_deref().map(seal_cursor);
    Ok(listed)
}

fn prompt(record: &AgentRecord) -> Prompt {
    let agent = &record.definition;
    let goal = PromptArgument::new(GOAL).with_description("What is to be done.").with_required(false);
    let about = Some(&agent.description).filter(|about| !about.trim().is_empty());
    Prompt::new(record.id.as_str(), about.cloned(), Some(vec![goal])).with_title(agent.name.clone())
}

/// The protocol knows no message of the system: the user says it.
pub(super) async fn get(
    server: &Server,
    request: GetPromptRequestParams,
) -> Result<GetPromptResult, ErrorData> {
    let found = match request.name.parse() {
        Ok(id) if server.may(Scope::AgentsRead) => {
            agents::current(&server.app.hub.store, &server.principal.workspace_id, &id).await
        }
        _ => Ok(None),
    };
    let Some(record) = found.map_err(|error| refused(error.into()))? else {
        let name: String = request.name.chars().take(128).collect();
        let message = format!("there is no prompt `{name}` that this key may read; prompts/list tells which");
        return Err(ErrorData::invalid_params(message, None));
    };
    let agent = &record.definition;
    let mut arguments = request.arguments.unwrap_or_default();
    let goal = arguments.remove(GOAL);
    if let Some(unknown) = arguments.keys().next() {
        let unknown: String = unknown.chars().take(80).collect();
        let message = format!("the prompt takes `{GOAL}`, and no `{unknown}`");
        return Err(ErrorData::invalid_params(message, None));
    }
    let goal = match goal {
        Some(serde_json::Value::String(goal)) => goal,
        None => String::new(),
        Some(_) => return Err(ErrorData::invalid_params(format!("`{GOAL}` is a text"), None)),
    };
    let said =
        [agent.system_prompt.as_str(), goal.as_str()].into_iter().filter(|text| !text.trim().is_empty());
    let messages = said.map(|text| PromptMessage::new_text(Role::User, text)).collect();
    Ok(GetPromptResult::new(messages).with_description(agent.description.clone()))
}
