//! Typed ids. Each parses strictly, so that a handler never sees an id that
//! the store could not hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clock::{Ids, Timestamp};

const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// The text is not an id of this kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{given}` is not {expected}")]
pub struct InvalidId {
    pub given: String,
    pub expected: &'static str,
}

fn invalid(given: &str, expected: &'static str) -> InvalidId {
    InvalidId { given: given.chars().take(80).collect(), expected }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(invalid(text, $expected)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_lower_tail(text: &str, prefix: &str, length: usize) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|tail| tail.len() == length && tail.bytes().all(|byte| LOWER.contains(&byte)))
}

/// What a client may choose as an id.
fn is_chosen(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

text_id!(
    /// A workspace: `ws_` and 20 of `a-z0-9`.
    WorkspaceId,
    "a workspace id (`ws_` and 20 of a-z0-9)",
    |text| is_lower_tail(text, "ws_", 20)
);
text_id!(
    /// A user: `user_` and 20 of `a-z0-9`.
    UserId,
    "a user id (`user_` and 20 of a-z0-9)",
    |text| is_lower_tail(text, "user_", 20)
);
text_id!(
    /// An agent: `agent_…` when the hub makes it; a client may choose 1 to 64
    /// of letters, digits, `_`, `-` and `.`.
    AgentId,
    "an agent id (1 to 64 of letters, digits, `_`, `-` and `.`)",
    is_chosen
);

text_id!(
    /// A workflow: `workflow_…` when the hub makes it; a client may choose 1 to
    /// 64 of letters, digits, `_`, `-` and `.`.
    WorkflowId,
    "a workflow id (1 to 64 of letters, digits, `_`, `-` and `.`)",
    is_chosen
);

text_id!(
    /// A schedule: `sched_…` when the hub makes it; a client may choose 1 to 64
    /// of letters, digits, `_`, `-` and `.`.
    ScheduleId,
    "a schedule id (1 to 64 of letters, digits, `_`, `-` and `.`)",
    is_chosen
);

text_id!(
    /// A memory: `mem_` and 20 of `a-z0-9`.
    MemoryId,
    "a memory id (`mem_` and 20 of a-z0-9)",
    |text| is_lower_tail(text, "mem_", 20)
);

text_id!(
    /// An upload in parts: `upl_` and 20 of `a-z0-9`.
    UploadId,
    "an upload id (`upl_` and 20 of a-z0-9)",
    |text| is_lower_tail(text, "upl_", 20)
);

text_id!(
    /// A sandbox: `sbx-` and 16 of `a-z0-9`. It is a label of a host's name too.
    SandboxId,
    "a sandbox id (`sbx-` and 16 of a-z0-9)",
    |text| is_lower_tail(text, "sbx-", 16)
);

impl SandboxId {
    pub fn generate(ids: &dyn Ids) -> Self {
        Self(format!("sbx-{}", ids.text(LOWER, 16)))
    }
}

impl UploadId {
    pub fn generate(ids: &dyn Ids) -> Self {
        Self(format!("upl_{}", ids.text(LOWER, 20)))
    }
}

impl MemoryId {
    pub fn generate(ids: &dyn Ids) -> Self {
        Self(format!("mem_{}", ids.text(LOWER, 20)))
    }
}

impl ScheduleId {
    pub fn generate(ids: &dyn Ids) -> Self {
        Self(format!("sched_{}", ids.text(LOWER, 16)))
    }
}

impl WorkflowId {
    pub fn generate(ids: &dyn Ids) -> Self {
        Self(format!("workflow_{}", ids.text(LOWER, 16)))
    }
}

impl WorkspaceId {
    pub fn generate(ids: &dyn Ids) -> Self {
        Self(format!("ws_{}", ids.text(LOWER, 20)))
    }
}

impl UserId {
    pub fn generate(ids: &dyn Ids) -> Self {
        Self(format!("user_{}", ids.text(LOWER, 20)))
    }
}

impl AgentId {
    /// The agent that every workspace starts with.
    pub const DEFAULT: &'static str = "agent_default";

    pub fn generate(ids: &dyn Ids) -> Self {
        Self(format!("agent_{}", ids.text(LOWER, 16)))
    }

    pub fn default_agent() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

/// A run: a UUIDv7, so that ids sort by the time of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    pub fn generate(ids: &dyn Ids, now: Timestamp) -> Self {
        Self(ids.uuid_v7(now))
    }

    /// When it was made: the first 48 bits of a UUIDv7 are milliseconds since
    /// 1970 (RFC 9562, section 5.7).
    pub fn made_at(self) -> Timestamp {
        Timestamp::from_millis((self.0.as_u128() >> 80) as i64)
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::parse_str(text).map(Self).map_err(|_| invalid(text, "a run id (a UUID)"))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An API key's number, counted per workspace from 1.
pub type KeyId = i64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parsed_strictly() {
        assert!("ws_0123456789abcdefghij".parse::<WorkspaceId>().is_ok());
        assert!("ws_0123456789ABCDEFGHIJ".parse::<WorkspaceId>().is_err());
        assert!("agent_default".parse::<AgentId>().is_ok());
        for bad in ["", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<AgentId>().is_err(), "{bad}");
        }
        assert!("not-a-run".parse::<RunId>().is_err());
    }
}
