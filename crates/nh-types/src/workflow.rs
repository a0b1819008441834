//! Workflows: what goes in and out, and what a run keeps of one.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::id::WorkflowId;
use crate::patch::{not_null, present};

/// What a workflow does. Each change makes a new version of it; a run keeps
/// the version that it started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkflowDefinition {
    /// 1 to 128 characters.
    pub name: String,
    pub description: String,
    /// JSON Schema (2020-12) of a run's input; null: any.
    #[schema(value_type = Option<Object>)]
    pub input_schema: Option<Value>,
    pub steps: Vec<WorkflowStep>,
    /// What the run's result is, with expressions in it; null: the outputs of
    /// the steps that no other step needs, by their ids.
    #[schema(value_type = Option<Object>)]
    pub output: Option<Value>,
}

/// One step. Texts in `with`, and `if` and `for_each`, may hold `{{ … }}`
/// expressions over `input` and `steps.ID.output`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkflowStep {
    /// 1 to 64 of letters, digits and `_`, not beginning with a digit.
    pub id: String,
    /// `tool:NAME`, `agent:ID`, `workflow:ID`, or one that waits: `sleep`,
    /// `approval`, `signal`.
    pub uses: String,
    /// What it is given.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub with: Map<String, Value>,
    /// The steps that come before it. Those that its expressions name come
    /// before it anyway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// An expression; when it is false the step is skipped, and its output is
    /// null.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// A list, or an expression that gives one: the step is done for each
    /// `item`, at its `index` from 0, and its output is the list of theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub for_each: Option<Value>,
    /// Of a `for_each`, so many at once: 1 to 100, default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub max_parallel: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Each try fails, code `timeout`, after so long: 1 to 604800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 604_800)]
    pub timeout_seconds: Option<i64>,
    #[serde(default, skip_serializing_if = "OnError::is_fail")]
    pub on_error: OnError,
    /// A person approves, denies or edits what it is given before it is done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requires_approval: bool,
}

/// Tries of a step that fails.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// With the first: 1 to 10.
    #[schema(minimum = 1, maximum = 10)]
    pub max_attempts: i64,
    /// Before the second try, and twice as long before each that follows, an
    /// hour at most: 0 to 3600, default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 3600)]
    pub backoff_seconds: Option<i64>,
}

/// What becomes of the run when a step fails for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The run fails.
    #[default]
    Fail,
    /// It goes on: the step's `output` is null, and its `error` is set.
    Continue,
}

impl OnError {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde calls
    fn is_fail(&self) -> bool {
        *self == Self::Fail
    }
}

/// A workflow as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkflowView {
    pub id: WorkflowId,
    #[serde(flatten)]
    pub definition: WorkflowDefinition,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub version: u32,
}

/// `POST /v1/workflows`, as JSON or as YAML.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Sum up", "steps": [
    {"id": "sum", "uses": "tool:calculate", "with": {"expression": "{{ input.a }} + {{ input.b }}"}},
    {"id": "say", "uses": "agent:agent_default", "with": {"goal": "Say that the sum is {{ steps.sum.output }}."}}]}))]
pub struct CreateWorkflow {
    /// Absent: the hub makes one, `workflow_…`.
    #[serde(default)]
    pub id: Option<String>,
    /// 1 to 128 characters.
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    /// JSON Schema (2020-12) of a run's input; absent: any.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub input_schema: Option<Value>,
    /// 1 to 200.
    pub steps: Vec<WorkflowStep>,
    /// What a run's result is, with expressions in it; absent: the outputs of
    /// the steps that no other step needs, by their ids.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub output: Option<Value>,
}

/// `PATCH /v1/workflows/{id}`: what is absent stays as it is, null puts back
/// what a new workflow has. A name and steps cannot be null.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"description": "Adds two numbers and says so."}))]
pub struct ChangeWorkflow {
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub description: Option<Option<String>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub input_schema: Option<Option<Value>>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<WorkflowStep>, required = false)]
    pub steps: Option<Vec<WorkflowStep>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub output: Option<Option<Value>>,
}
