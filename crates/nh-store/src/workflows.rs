//! Workflows and their versions.

use std::sync::Arc;

use nh_types::workflow::WorkflowDefinition;
use nh_types::{Page, PageRequest, Timestamp, WorkflowId, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::cursor::Cursor;
use crate::sql::{Row, args, to_json};
use crate::versioned::versioned;
use crate::{Store, StoreError, Tx, Write};

versioned! {
    record: WorkflowRecord,
    id: WorkflowId,
    definition: WorkflowDefinition,
    table: "workflows",
    versions: "workflow_versions",
    column: "workflow_id",
    a: "a workflow",
    known: workflows,
}
