use std::collections::BTreeMap;
use std::sync::Arc;

use nh_types::{Timestamp, WorkspaceId};
use sqlx::AssertSqlSafe;

use super::RunRecord;
use super::lane::{self, Group, Head};
use super::record::{record, run_columns};
use super::turns::{self, Candidate, Shares, Turn};
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::{Row, args};
use crate::{StoreError, Tx, Write};

/// Lanes looked at in one read, at least.
const LANES_AT_LEAST: u32 = 16;

/// Of one look at the runs that dead nodes left, or at those that are due.
const BATCH: u32 = 512;

/// Overdue runs that one look takes. They are read whole.
const MAX_OVERDUE: usize = 64;

/// Takes runs that are ready for `node` and raises their epochs: from the
/// workspaces in turn, so that a long queue of one does not keep another
/// waiting, and of each workspace the most urgent first, the oldest of those.
/// What would go beyond a bound of its lane or its workspace stays.
///
/// On PostgreSQL what dead nodes owned becomes ready first: renew this node's
/// lease before claiming.
#[derive(Clone, Debug)]
pub struct Claim {
    pub node: String,
    /// At most this many runs.
    pub limit: u32,
    /// Where the last claim ended.
    pub after: Option<Turn>,
    /// Of the workspaces that are not as all are.
    pub shares: Arc<Shares>,
}

#[derive(Debug, Default)]
pub struct Claimed {
    pub runs: Vec<RunRecord>,
    /// Where it ended, for the next claim.
    pub last: Option<Turn>,
    /// How many runs of dead nodes became ready.
    pub orphans: u64,
}

impl Write for Claim {
    type Output = Claimed;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Claimed, StoreError> {
        let orphans = release_what_dead_nodes_own(tx, &self.node).await?;
        let mut claimed = Claimed { runs: Vec::new(), last: self.after.clone(), orphans };
        loop {
            let before = claimed.runs.len();
            let start = turns::start(claimed.last.as_ref(), &self.shares);
            self.go(tx, &mut claimed, start.clone(), turns::END).await?;
            self.go(tx, &mut claimed, String::new(), &start).await?;
            // Nothing is ready, it has reached its bounds, or another node
            // holds it.
            if claimed.runs.len() == before || self.free(&claimed) == 0 {
                return Ok(claimed);
            }
        }
    }
}

impl Claim {
    fn free(&self, claimed: &Claimed) -> u32 {
        self.limit.saturating_sub(claimed.runs.len() as u32)
    }

    /// Gives a turn to each workspace with ready runs from one place in their
    /// order to another, while there are slots.
    async fn go(
        &self,
        tx: &mut Tx,
        claimed: &mut Claimed,
        mut from: String,
        to: &str,
    ) -> Result<(), StoreError> {
        loop {
            let free = self.free(claimed);
            if free == 0 || from.as_str() >= to {
                return Ok(());
            }
            let most = free.max(LANES_AT_LEAST);
            let lanes = ready_lanes(tx, &from, to, most).await?;
            let may_go_on = lanes.len() >= most as usize;
            let mut turn = turns::candidates(lanes)?;
            let Some(last) = turn.last_mut() else { return Ok(()) };
            from = turns::behind(&last.workspace_id);
            if let Some((lane, _)) = last.lanes.last().filter(|_| may_go_on) {
                let more = ready_lanes(tx, lane, &from, u32::MAX).await?;
                last.lanes.extend(turns::candidates(more)?.into_iter().flat_map(|more| more.lanes));
            }
            let quotas = turns::quotas(&turn, claimed.last.as_ref(), free, &self.shares);
            for (candidate, quota) in turn.iter().zip(quotas) {
                let free = self.free(claimed);
                if free == 0 {
                    return Ok(());
                }
                let picked = self.pick(tx, candidate, quota.min(free)).await?;
                let is_cut = quota > free && picked.len() as u32 == free;
                let (of, taken) = (&candidate.workspace_id, picked.len() as u32);
                claimed.last = Some(turns::after(claimed.last.take(), of, taken, is_cut, &self.shares));
                claimed.runs.extend(picked);
            }
        }
    }

    async fn pick(
        &self,
        tx: &mut Tx,
        candidate: &Candidate,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let bound = self.shares.of(&candidate.workspace_id).max_running;
        let is_plain = bound.is_none() && candidate.lanes.iter().all(|(_, groups)| groups.is_empty());
        if !is_plain {
            return self.pick_bounded(tx, candidate, bound, limit).await;
        }
        let sql = format!(
            "with picked (run_id) as materialized (select id from runs where ready = 1 and lane = $3 \
             order by priority desc, id limit $2 {}) \
             update runs set owner = $1, epoch = epoch + 1, ready = 0, wake_at = null \
             from picked where id = picked.run_id returning {}",
            tx.engine().skip_locked(),
            run_columns!()
        );
        // Only this crate's own words were put together.
        let lane = candidate.workspace_id.as_str();
        let rows = tx.returning(AssertSqlSafe(sql), args![&self.node, limit, lane]).await?;
        Ok(in_order(&rows))
    }

    /// Of a workspace with bounds: nobody else claims in it meanwhile. One in
    /// which another node does is passed over: nodes come to them in different
    /// orders, so waiting could be for each other.
    async fn pick_bounded(
        &self,
        tx: &mut Tx,
        candidate: &Candidate,
        bound: Option<u32>,
        limit: u32,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let lock = tx.engine().skip_locked_row();
        let sql = format!("select id from workspaces where id = $1 {lock}");
        // Only this crate's own words were put together, here and below.
        if tx.select(AssertSqlSafe(sql), args![&candidate.workspace_id]).await?.is_empty() {
            return Ok(Vec::new());
        }
        let limit = match bound {
            Some(most) => limit.min(most.saturating_sub(running(tx, &candidate.workspace_id).await?)),
            None => limit,
        };
        let under_way = under_way(tx, &candidate.workspace_id).await?;
        let mut heads = Vec::new();
        for (place, (lane, groups)) in candidate.lanes.iter().enumerate() {
            let room = |group: &Group| group.most.saturating_sub(*under_way.get(&group.name).unwrap_or(&0));
            let room = groups.iter().map(room).min().unwrap_or(limit).min(limit);
            if room == 0 {
                continue;
            }
            let sql = format!(
                "select id, priority from runs where ready = 1 and lane = $1 \
                 order by priority desc, id limit $2 {}",
                tx.engine().skip_locked()
            );
            for row in tx.select(AssertSqlSafe(sql), args![lane, room]).await? {
                let mut columns = Columns::of(&row);
                heads.push(Head { id: columns.text()?, priority: columns.int()?, lane: place });
            }
        }
        let lanes: Vec<_> = candidate.lanes.iter().map(|(_, groups)| groups.clone()).collect();
        let mut chosen = Rows::new(2);
        for id in lane::choose(&lanes, heads, under_way, limit as usize) {
            chosen.push(args![id, &self.node]);
        }
        let rows = tx
            .returning_rows(
                concat!(
                    "with given (run_id, node) as (values ROWS) \
                     update runs set owner = given.node, epoch = epoch + 1, ready = 0, wake_at = null \
                     from given where id = given.run_id returning ",
                    run_columns!()
                ),
                chosen,
            )
            .await?;
        Ok(in_order(&rows))
    }
}

fn in_order(rows: &[Row]) -> Vec<RunRecord> {
    let mut runs = readable(rows);
    runs.sort_by_key(|run| (-run.priority, run.id));
    runs
}

/// How many of the workspace's runs are under way.
async fn running(tx: &mut Tx, workspace_id: &WorkspaceId) -> Result<u32, StoreError> {
    let rows = tx
        .select(
            "select count(*) from runs where finished_at is null and owner is not null and workspace_id = $1",
            args![workspace_id],
        )
        .await?;
    rows.first().map_or(Ok(0), |row| Columns::of(row).number())
}

/// How many of each group are under way.
async fn under_way(tx: &mut Tx, workspace_id: &WorkspaceId) -> Result<BTreeMap<String, u32>, StoreError> {
    let rows = tx
        .select(
            "select lane, count(*) from runs where owner is not null and lane <> workspace_id \
             and workspace_id = $1 group by lane",
            args![workspace_id],
        )
        .await?;
    let mut counts = BTreeMap::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (lane, count): (String, u32) = (columns.text()?, columns.number()?);
        for group in lane::parse(&lane)?.1 {
            *counts.entry(group.name).or_default() += count;
        }
    }
    Ok(counts)
}

/// Goes from one lane with ready runs to the next along the index, whatever
/// their lengths.
async fn ready_lanes(tx: &mut Tx, after: &str, before: &str, limit: u32) -> Result<Vec<String>, StoreError> {
    let rows = tx
        .select(
            "with recursive lanes (lane) as (\
             select min(lane) from runs where ready = 1 and lane > $1 and lane < $2 \
             union all \
             select (select min(runs.lane) from runs where ready = 1 and runs.lane > lanes.lane and runs.lane < $2) \
             from lanes where lanes.lane is not null) \
             select lane from lanes where lane is not null limit $3",
            args![after, before, limit],
        )
        .await?;
    rows.iter().map(|row| Columns::of(row).text()).collect()
}

/// How many there were.
async fn release_what_dead_nodes_own(tx: &mut Tx, node: &str) -> Result<u64, StoreError> {
    if !tx.is_shared() {
        return Ok(0);
    }
    let sql = format!(
        "with orphaned (run_id) as materialized (select id from runs where finished_at is null \
         and owner is not null and owner <> $1 and not exists \
         (select 1 from nodes where nodes.id = runs.owner and nodes.expires_at > {}) \
         order by id limit $2 {}) \
         update runs set owner = null, epoch = epoch + 1, \
         ready = case when after_id is null then 1 else 0 end, wake_at = deadline_at \
         from orphaned where id = orphaned.run_id",
        tx.now_ms(),
        tx.engine().skip_locked()
    );
    // Only this crate's own words were put together.
    tx.execute(AssertSqlSafe(sql), args![node, BATCH]).await
}

/// Looks at the runs whose `wake_at` has come: makes them ready, or, when it is
/// their deadline that has come, takes them for `node`, which ends them.
#[derive(Clone, Debug)]
pub struct WakeDue {
    pub node: String,
    pub now: Timestamp,
}

#[derive(Debug)]
pub struct Woken {
    /// How many runs became ready.
    pub ready: u64,
    /// Owned by `node` now; at most [`MAX_OVERDUE`].
    pub overdue: Vec<RunRecord>,
    /// When the next look is due: in the past when more was due than fits in
    /// one look, or when another node holds what is.
    pub next: Option<Timestamp>,
}

impl Write for WakeDue {
    type Output = Woken;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Woken, StoreError> {
        let sql = format!(
            "select id, deadline_at from runs where wake_at <= $1 order by wake_at limit $2 {}",
            tx.engine().skip_locked()
        );
        // Only this crate's own words were put together, here and below.
        let due = tx.select(AssertSqlSafe(sql), args![self.now, BATCH]).await?;
        let (mut ready, mut overdue) = (Rows::new(1), Rows::new(2));
        let mut count = 0;
        for row in &due {
            let mut columns = Columns::of(row);
            let (id, deadline_at) = (columns.text()?, columns.optional_time()?);
            if deadline_at.is_none_or(|at| at > self.now) {
                ready.push(args![id]);
            } else if count < MAX_OVERDUE {
                overdue.push(args![id, &self.node]);
                count += 1;
            }
        }
        let ready = tx
            .execute_rows(
                "update runs set ready = case when after_id is null then 1 else 0 end, wake_at = deadline_at \
                 where id in (select column1 from (values ROWS) as given)",
                ready,
            )
            .await?;
        let taken = tx
            .returning_rows(
                concat!(
                    "with given (run_id, node) as (values ROWS) \
                     update runs set owner = given.node, epoch = epoch + 1, ready = 0, wake_at = null \
                     from given where id = given.run_id returning ",
                    run_columns!()
                ),
                overdue,
            )
            .await?;
        let next = tx.select("select min(wake_at) from runs where wake_at is not null", args![]).await?;
        let next = next.first().map(|row| Columns::of(row).optional_time()).transpose()?.flatten();
        Ok(Woken { ready, overdue: readable(&taken), next })
    }
}

/// Leaves out what this version cannot read, so that one such run does not
/// hold up all others.
fn readable(rows: &[Row]) -> Vec<RunRecord> {
    let read = |row| match record(row) {
        Ok(run) => Some(run),
        Err(error) => {
            let id = Columns::of(row).text().unwrap_or_default();
            tracing::error!(run = id, %error, "a claimed run cannot be read; `neuralhub check` may tell more");
            None
        }
    };
    rows.iter().filter_map(read).collect()
}

/// Makes all owned runs ready; what was owned only to be ended, before its turn
/// in its thread, is due again. Only for SQLite at start, where the data
/// directory's lock proves that nobody else runs any.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseAll;

impl Write for ReleaseAll {
    /// How many runs had an owner.
    type Output = u64;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u64, StoreError> {
        tx.execute(
            "update runs set owner = null, ready = case when after_id is null then 1 else 0 end, \
             wake_at = deadline_at \
             where finished_at is null and owner is not null",
            args![],
        )
        .await
    }
}
