use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `[http]`: what tools, webhooks and MCP servers may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Networks (CIDR, such as `10.1.0.0/16`) that may be reached although
    /// they are private. The hub's own listeners are never reached.
    #[schema(value_type = Vec<String>, example = json!(["10.1.0.0/16"]))]
    pub allow_networks: Vec<IpNet>,
}
