//! What was used: one row a model call, and one each time that a sandbox or what is stored
//! was metered.

use std::str::FromStr;

use nh_types::model::Usage;
use nh_types::run::UnknownWord;
use nh_types::usage::{UsageBy, UsageSum};
use nh_types::{KeyId, RunId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::ledger::{Settle, Touched};
use crate::rows::Rows;
use crate::sql::args;
use crate::{Store, StoreError, Tx, Write};

/// What a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageKind {
    Chat,
    Embeddings,
    /// Seconds of a sandbox; `model` is its template.
    Sandbox,
    /// GB-hours of what is stored.
    Storage,
}

impl UsageKind {
    pub const EVERY: [UsageKind; 4] = [Self::Chat, Self::Embeddings, Self::Sandbox, Self::Storage];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
            Self::Sandbox => "sandbox",
            Self::Storage => "storage",
        }
    }
}

impl FromStr for UsageKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::EVERY.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownWord {
            given: text.chars().take(80).collect(),
            expected: "chat, embeddings, sandbox, storage".to_owned(),
        })
    }
}

const MS_PER_DAY: i64 = 86_400_000;

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
    /// The agent whose run it is.
    pub agent: Option<String>,
    pub provider: String,
    pub model: String,
    pub kind: UsageKind,
    pub usage: Usage,
    /// The provider did not say, so the tokens are a guess from the sizes.
    pub estimated: bool,
    /// US dollars that it did not cost, because an answer was given that was kept.
    pub saved_usd: Option<f64>,
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
        let mut rows = Rows::new(15);
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
                row.agent.as_deref(),
                row.saved_usd,
            ]);
        }
        tx.execute_rows(
            "with given (workspace_id, at, key_id, run_id, provider, model, kind, input_tokens, output_tokens, \
             cached_tokens, reasoning_tokens, cost_usd, estimated, agent, saved_usd) as (values ROWS) \
             insert into model_calls (workspace_id, at, key_id, run_id, provider, model, kind, input_tokens, \
             output_tokens, cached_tokens, reasoning_tokens, cost_usd, estimated, agent, saved_usd) \
             select * from given where workspace_id is not null",
            rows,
        )
        .await
        .map(drop)
    }
}

/// The provider of what is no model's.
const OWN: &str = "neuralhub";

/// What was metered since the last time.
pub(crate) struct Metered<'m> {
    pub(crate) workspace_id: &'m WorkspaceId,
    pub(crate) at: Timestamp,
    pub(crate) key_id: Option<KeyId>,
    pub(crate) run_id: Option<&'m str>,
    pub(crate) model: &'m str,
    pub(crate) kind: UsageKind,
    /// In the unit of its kind.
    pub(crate) quantity: f64,
    pub(crate) cost_usd: Option<f64>,
    /// It counts as one more: nothing of it was metered before.
    pub(crate) is_first: bool,
}

impl Metered<'_> {
    pub(crate) async fn insert(&self, tx: &mut Tx) -> Result<(), StoreError> {
        tx.execute(
            "insert into model_calls (workspace_id, at, key_id, run_id, provider, model, kind, input_tokens, \
             output_tokens, cached_tokens, reasoning_tokens, cost_usd, estimated, agent, quantity, calls) \
             values ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, 0, $8, 0, \
             (select target from runs where id = $4 and run_type = 'agent'), $9, $10)",
            args![
                self.workspace_id,
                self.at,
                self.key_id,
                self.run_id,
                OWN,
                self.model,
                self.kind.as_str(),
                self.cost_usd,
                Some(self.quantity),
                self.is_first
            ],
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
            "select provider, model, kind, cast(sum(calls) as bigint), cast(sum(estimated) as bigint), \
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

/// What the workspace used from `from` on and before `to`, summed by what is named, in the order
/// of the sums' fields; at most `limit` sums.
pub async fn sums(
    store: &Store,
    workspace_id: &WorkspaceId,
    (from, to): (Timestamp, Timestamp),
    by: &[UsageBy],
    limit: u32,
) -> Result<Vec<UsageSum>, StoreError> {
    let has = |one: UsageBy| by.contains(&one);
    store
        .all(
            "select case when $4 = 1 then at / 86400000 end, case when $5 = 1 then key_id end, \
             case when $6 = 1 then provider end, case when $7 = 1 then model end, \
             case when $8 = 1 then agent end, case when $9 = 1 then kind end, \
             cast(coalesce(sum(calls), 0) as bigint), cast(coalesce(sum(estimated), 0) as bigint), \
             count(case when cost_usd is null and quantity is null then 1 end), \
             cast(coalesce(sum(input_tokens), 0) as bigint), cast(coalesce(sum(output_tokens), 0) as bigint), \
             cast(coalesce(sum(cached_tokens), 0) as bigint), \
             cast(coalesce(sum(reasoning_tokens), 0) as bigint), sum(cost_usd), sum(saved_usd), \
             sum(case when kind = 'sandbox' then quantity end), sum(case when kind = 'storage' then quantity end) \
             from model_calls where workspace_id = $1 and at >= $2 and at < $3 \
             group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 4, 5, 6 limit $10",
            args![
                workspace_id,
                from,
                to,
                has(UsageBy::Day),
                has(UsageBy::Key),
                has(UsageBy::Provider),
                has(UsageBy::Model),
                has(UsageBy::Agent),
                has(UsageBy::Kind),
                limit
            ],
            |row| {
                let mut columns = Columns::of(row);
                let day: Option<i64> = columns.optional_number()?;
                let day = day.map(|day| Timestamp::from_millis(day * MS_PER_DAY).to_string());
                Ok(UsageSum {
                    day: day.map(|day| day.chars().take("2026-11-30".len()).collect()),
                    key_id: columns.optional_number()?,
                    provider: columns.optional_text()?,
                    model: columns.optional_text()?,
                    agent: columns.optional_text()?,
                    kind: columns.optional_text()?,
                    calls: columns.int()?,
                    estimated_calls: columns.int()?,
                    unpriced_calls: columns.int()?,
                    input_tokens: columns.number()?,
                    output_tokens: columns.number()?,
                    cached_tokens: columns.number()?,
                    reasoning_tokens: columns.number()?,
                    cost_usd: columns.optional_real()?.unwrap_or_default(),
                    saved_usd: columns.optional_real()?.unwrap_or_default(),
                    sandbox_seconds: columns.optional_real()?.unwrap_or_default(),
                    storage_gb_hours: columns.optional_real()?.unwrap_or_default(),
                })
            },
        )
        .await
}
