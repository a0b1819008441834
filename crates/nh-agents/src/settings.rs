use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `[agents]`: what agents use unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentsSettings {
    /// The model of agents that name none, and of `agent_default`. Absent: the
    /// first provider's own, or `neuralhub/offline` while there is none.
    pub default_model: Option<String>,
}
