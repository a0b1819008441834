//! Agents and their versions.

use std::sync::Arc;

use nh_types::agent::AgentDefinition;
use nh_types::{AgentId, Page, PageRequest, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::cursor::Cursor;
use crate::sql::{Row, args, to_json};
use crate::versioned::versioned;
use crate::{Store, StoreError, Tx, Write};

versioned! {
    record: AgentRecord,
    id: AgentId,
    definition: AgentDefinition,
    table: "agents",
    versions: "agent_versions",
    column: "agent_id",
    a: "an agent",
    known: agents,
}
