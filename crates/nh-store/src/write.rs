use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use sqlx::{SqlSafeStr, SqlStr};

use crate::ledger::Touched;
use crate::rows::{Rows, Texts};
use crate::sql::{Arg, Connection, Row};
use crate::{EngineKind, StoreError};

/// One write. It is queued, and the store's one writer applies it with others
/// in one transaction; the answer comes once that is committed.
///
/// Writes that wait at the same time have no order among themselves. A write
/// that answers an error before it changed anything fails alone; one that fails
/// later makes the writer roll the batch back and apply each of it by itself,
/// so `apply` may be called more than once and must depend on nothing but
/// `self` and the database.
pub trait Write: Send + Sync + 'static {
    type Output: Send + 'static;

    /// The accounts of the ledger that it changes: they are locked before
    /// anything of its batch is applied.
    fn touches(&self) -> Vec<Touched<'_>> {
        Vec::new()
    }

    fn apply<'t>(
        &'t self,
        tx: &'t mut Tx,
    ) -> impl Future<Output = Result<Self::Output, StoreError>> + Send + 't;

    /// Applies those of one batch that have the same type, with one answer for
    /// each, in order; an error in place of the answers spoils the batch. A
    /// type that is written often overrides this with one statement for all.
    fn apply_group<'t>(
        group: &'t [&'t Self],
        tx: &'t mut Tx,
    ) -> impl Future<Output = Result<Vec<Result<Self::Output, StoreError>>, StoreError>> + Send + 't {
        async move {
            let mut answers = Vec::with_capacity(group.len());
            for write in group {
                let changes = tx.changes;
                match write.apply(tx).await {
                    Err(error) if tx.failed || tx.changes != changes => return Err(error),
                    answer => answers.push(answer),
                }
            }
            Ok(answers)
        }
    }
}

/// A write that its maker keeps, to write it again should the store be down.
impl<W: Write> Write for Arc<W> {
    type Output = W::Output;

    fn touches(&self) -> Vec<Touched<'_>> {
        W::touches(self)
    }

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<W::Output, StoreError> {
        W::apply(self, tx).await
    }

    async fn apply_group<'t>(
        group: &'t [&'t Self],
        tx: &'t mut Tx,
    ) -> Result<Vec<Result<W::Output, StoreError>>, StoreError> {
        let writes: Vec<&W> = group.iter().map(|write| &***write).collect();
        W::apply_group(&writes, tx).await
    }
}

/// An open transaction. Only this crate can run statements in it; others
/// compose the writes that are here by calling their `apply`.
pub struct Tx {
    connection: Connection,
    texts: Texts,
    /// Rows changed since it began: tells whether a write that failed left
    /// something behind.
    changes: u64,
    /// A statement failed: nothing of this transaction may be committed.
    failed: bool,
    /// What is known of agents and workflows is old once this transaction is over.
    changes_definitions: bool,
}

impl Tx {
    pub(crate) fn new(connection: Connection) -> Self {
        let texts = Texts::new(connection.engine());
        Self { connection, texts, changes: 0, failed: false, changes_definitions: false }
    }

    pub(crate) fn engine(&self) -> EngineKind {
        self.connection.engine()
    }

    /// Whether its calls block the thread.
    pub(crate) fn blocks(&self) -> bool {
        self.connection.blocks()
    }

    /// Whether several processes may drive runs, each under a lease.
    pub(crate) fn is_shared(&self) -> bool {
        self.connection.is_shared()
    }

    /// The database's clock, as SQL.
    pub(crate) fn now_ms(&self) -> Cow<'static, str> {
        self.connection.now_ms()
    }

    /// Has the agents and workflows in memory forgotten when the transaction is over.
    pub(crate) fn changes_definitions(&mut self) {
        self.changes_definitions = true;
    }

    pub(crate) fn take_changes_definitions(&mut self) -> bool {
        std::mem::take(&mut self.changes_definitions)
    }

    /// Whether a statement failed, so that nothing of this may be committed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(crate) async fn begin(&mut self) -> Result<(), StoreError> {
        (self.changes, self.failed) = (0, false);
        self.connection.begin().await
    }

    pub(crate) async fn commit(&mut self) -> Result<(), StoreError> {
        if self.failed {
            // PostgreSQL would answer this commit with a silent rollback.
            return Err(StoreError::Corrupt("a commit after a failed statement was stopped".to_owned()));
        }
        self.connection.commit().await
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), StoreError> {
        self.connection.rollback().await
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        self.connection.close().await
    }

    /// Runs a statement that reads.
    pub(crate) async fn select(
        &mut self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.connection.fetch(sql.into_sql_str(), args).await;
        self.failed |= rows.is_err();
        rows
    }

    /// Runs a statement that changes rows; tells how many it changed.
    pub(crate) async fn execute(&mut self, sql: impl SqlSafeStr, args: Vec<Arg>) -> Result<u64, StoreError> {
        let changed = self.connection.execute(sql.into_sql_str(), args).await;
        self.failed |= changed.is_err();
        self.changes += *changed.as_ref().unwrap_or(&0);
        changed
    }

    /// Runs a statement that changes rows and returns each of them.
    pub(crate) async fn returning(
        &mut self,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.connection.fetch(sql.into_sql_str(), args).await;
        self.failed |= rows.is_err();
        self.changes += rows.as_ref().map_or(0, |rows| rows.len() as u64);
        rows
    }

    /// [`Tx::execute`] with `rows` in place of `values ROWS`.
    pub(crate) async fn execute_rows(
        &mut self,
        template: &'static str,
        rows: Rows,
    ) -> Result<u64, StoreError> {
        let mut changed = 0;
        for (sql, args) in self.statements(template, rows) {
            changed += self.execute(sql, args).await?;
        }
        Ok(changed)
    }

    /// [`Tx::select`] with `rows` in place of `values ROWS`.
    pub(crate) async fn select_rows(
        &mut self,
        template: &'static str,
        rows: Rows,
    ) -> Result<Vec<Row>, StoreError> {
        let mut selected = Vec::new();
        for (sql, args) in self.statements(template, rows) {
            selected.extend(self.select(sql, args).await?);
        }
        Ok(selected)
    }

    /// [`Tx::returning`] with `rows` in place of `values ROWS`.
    pub(crate) async fn returning_rows(
        &mut self,
        template: &'static str,
        rows: Rows,
    ) -> Result<Vec<Row>, StoreError> {
        let mut returned = Vec::new();
        for (sql, args) in self.statements(template, rows) {
            returned.extend(self.returning(sql, args).await?);
        }
        Ok(returned)
    }

    fn statements(&mut self, template: &'static str, rows: Rows) -> Vec<(SqlStr, Vec<Arg>)> {
        rows.statements(template, &mut self.texts)
    }
}
