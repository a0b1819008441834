//! The built-in tools, called as a run calls them.

mod calculate;
mod current_time;
mod http_fetch;
mod registry;
mod server;
mod web_search;

use nh_agents::search::SearchSettings;
use nh_agents::tools::{BuiltinSetup, ToolCall, ToolError, ToolOutput, Tools};
use nh_http::{HttpSettings, Outbound};
use nh_models::Caller;
use nh_schema::Validator;
use nh_testkit::FixedClock;
use nh_types::{Clock, RunId, ScopeSet, WorkspaceId};
use serde_json::Value;

/// No search provider; nothing private may be fetched.
fn plain_tools() -> Tools {
    tools_with(&[], &SearchSettings::default(), &|_| None)
}

fn tools_with(
    allow_networks: &[&str],
    search: &SearchSettings,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Tools {
    let settings =
        HttpSettings { allow_networks: allow_networks.iter().map(|net| net.parse().unwrap()).collect() };
    Tools::builtin(
        BuiltinSetup {
            guarded: Outbound::guarded(&settings, Vec::new()).unwrap(),
            operator: Outbound::operator().unwrap(),
            search,
            environment,
        },
        [],
    )
    .unwrap()
}

async fn call(tools: &Tools, name: &str, arguments: Value) -> Result<ToolOutput, ToolError> {
    call_at(tools, name, arguments, &FixedClock::default()).await
}

/// What comes out is held against the tool's own output schema.
async fn call_at(
    tools: &Tools,
    name: &str,
    arguments: Value,
    clock: &dyn Clock,
) -> Result<ToolOutput, ToolError> {
    let workspace_id: WorkspaceId = "ws_0123456789abcdefghij".parse().unwrap();
    let run_id: RunId = "0190a0b0-0000-7000-8000-000000000000".parse().unwrap();
    let caller = Caller {
        workspace_id: workspace_id.clone(),
        key_id: None,
        run_id: Some(run_id),
        agent: None,
        limits: Default::default(),
        cache: Default::default(),
        charge: None,
    };
    let call = ToolCall {
        arguments: &arguments,
        workspace_id: &workspace_id,
        run_id,
        step_id: "1",
        created_by: "key:1",
        caller: &caller,
        scopes: &ScopeSet::all(),
        idempotency_key: "run:1",
        clock,
    };
    let output = tools.call(name, call).await?;
    let schema = tools.get(name).unwrap().spec().output_schema.clone().unwrap();
    let validator: Validator = nh_schema::compile(&schema).unwrap();
    if let Err(fault) = validator.validate(&output.value) {
        panic!("the output of {name} is not what its schema says: {fault}");
    }
    Ok(output)
}
