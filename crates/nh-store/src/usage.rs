//! What model calls used: one row a call.

use std::str::FromStr;

use nh_types::model::Usage;
use nh_types::run::UnknownWord;
use nh_types::{KeyId, RunId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::ledger::{Settle, Touched};
use crate::rows::Rows;
use crate::sql::args;
use crate::{Store, StoreError, Tx, Write};

/// What kind of model call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageKind {
    Chat,
    Embeddings,
}

impl UsageKind {
    pub const EVERY: [UsageKind; 2] = [UsageKind::Chat, UsageKind::Embeddings];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
        }
    }
}

impl FromStr for UsageKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::EVERY.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownWord {
            given: text.chars().take(80).collect(),
            expected: "chat, embeddings".to_owned(),
        })
    }
}

/// More tokens than this in one call are a provider's mistake, and would make
/// sums overflow.
const MAX_TOKENS: u64 = 1_000_000_000_000;

/// One model call.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageRow {
    pub workspace_id: WorkspaceId,
    pub at: Timestamp,
    pub key_id: Option<KeyId>,
    pub run_id: Option<RunId>,
    pub provider: String,
    pub model: String,
    pub kind: UsageKind,
    pub usage: Usage,
    /// The provider did not say, so the tokens are a guess from the sizes.
    pub estimated: bool,
}

/// One statement for many calls, and what some of them had reserved. Calls of
/// several workspaces may be mixed.
#[derive(Clone, Debug, Default)]
pub struct RecordMany {
    pub calls: Vec<UsageRow>,
    pub settled: Vec<Settle>,
}

impl Write for RecordMany {
    type Output = ();

    fn touches(&self) -> Vec<Touched<'_>> {
        self.settled.iter().flat_map(Settle::touches).collect()
    }

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        for settle in &self.settled {
            settle.apply(tx).await?;
        }
        let mut rows = Rows::new(13);
        for row in &self.calls {
            rows.push(args![
                &row.workspace_id,
                row.at,
                row.key_id,
                row.run_id,
                &row.provider,
                &row.model,
                row.kind.as_str(),
                row.usage.input_tokens.min(MAX_TOKENS),
                row.usage.output_tokens.min(MAX_TOKENS),
                row.usage.cached_tokens.min(MAX_TOKENS),
                row.usage.reasoning_tokens.min(MAX_TOKENS),
                row.usage.cost_usd,
                row.estimated,
            ]);
        }
        tx.execute_rows(
            "with given (workspace_id, at, key_id, run_id, provider, model, kind, input_tokens, output_tokens, \
             cached_tokens, reasoning_tokens, cost_usd, estimated) as (values ROWS) \
             insert into model_calls (workspace_id, at, key_id, run_id, provider, model, kind, input_tokens, \
             output_tokens, cached_tokens, reasoning_tokens, cost_usd, estimated) \
             select * from given where workspace_id is not null",
            rows,
        )
        .await
        .map(drop)
    }
}

/// The sum over one provider's model.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageTotal {
    pub provider: String,
    pub model: String,
    pub kind: UsageKind,
    pub calls: i64,
    /// Calls whose tokens are a guess.
    pub estimated_calls: i64,
    /// Its cost is unknown when that of one call is.
    pub usage: Usage,
}

/// What the workspace used at `since` or later, by provider and model.
pub async fn totals(
    store: &Store,
    workspace_id: &WorkspaceId,
    since: Timestamp,
) -> Result<Vec<UsageTotal>, StoreError> {
    store
        .all(
            "select provider, model, kind, count(*), cast(sum(estimated) as bigint), \
             cast(sum(input_tokens) as bigint), cast(sum(output_tokens) as bigint), \
             cast(sum(cached_tokens) as bigint), cast(sum(reasoning_tokens) as bigint), \
             case when count(cost_usd) = count(*) then sum(cost_usd) end \
             from model_calls where workspace_id = $1 and at >= $2 \
             group by provider, model, kind order by provider, model, kind",
            args![workspace_id, since],
            |row| {
                let mut columns = Columns::of(row);
                Ok(UsageTotal {
                    provider: columns.text()?,
                    model: columns.text()?,
                    kind: columns.parse()?,
                    calls: columns.int()?,
                    estimated_calls: columns.int()?,
                    usage: Usage {
                        input_tokens: columns.number()?,
                        output_tokens: columns.number()?,
                        cached_tokens: columns.number()?,
                        reasoning_tokens: columns.number()?,
                        cost_usd: columns.optional_real()?,
                    },
                })
            },
        )
        .await
}
