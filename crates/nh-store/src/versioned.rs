//! What changes by versions: each change is a row of its own, kept for what
//! began with it. Agents and workflows are kept so.

/// The record, its reads and its writes, for one pair of tables.
macro_rules! versioned {
    (
        record: $record:ident, id: $id:ty, definition: $definition:ty, table: $table:literal,
        versions: $versions:literal, column: $column:literal, a: $a_word:literal, known: $known:ident $(,)?
    ) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct $record {
            pub id: $id,
            pub workspace_id: WorkspaceId,
            /// Counted from 1.
            pub version: u32,
            pub definition: $definition,
            pub created_at: Timestamp,
            pub updated_at: Timestamp,
        }

        fn record(row: &Row) -> Result<$record, StoreError> {
            let mut columns = Columns::of(row);
            Ok($record {
                id: columns.parse()?,
                workspace_id: columns.parse()?,
                version: columns.number()?,
                definition: columns.json()?,
                created_at: columns.time()?,
                updated_at: columns.time()?,
            })
        }

        /// The newest version.
        pub async fn find(
            store: &Store,
            workspace_id: &WorkspaceId,
            id: &$id,
        ) -> Result<Option<$record>, StoreError> {
            store
                .find(
                    concat!("select a.id, a.workspace_id, a.version, v.definition, a.created_at, a.updated_at \
                     from ", $table, " a join ", $versions, " v \
                     on v.workspace_id = a.workspace_id and v.", $column, " = a.id and v.version = a.version \
                     where a.workspace_id = $1 and a.id = $2 and a.deleted_at is null"),
                    args![workspace_id, id],
                    record,
                )
                .await
        }

        /// The newest version, out of memory where that is as good.
        pub async fn current(
            store: &Store,
            workspace_id: &WorkspaceId,
            id: &$id,
        ) -> Result<Option<Arc<$record>>, StoreError> {
            let known = &store.known().$known;
            let seen = match known.find(workspace_id, id.as_str()) {
                Ok(record) => return Ok(Some(record)),
                Err(seen) => seen,
            };
            let found = find(store, workspace_id, id).await?.map(Arc::new);
            if let Some(record) = &found {
                known.keep(&seen, workspace_id, id.as_str(), record);
            }
            Ok(found)
        }

        /// A version, of a deleted one too. Its `updated_at` is when that
        /// version was made.
        pub async fn find_version(
            store: &Store,
            workspace_id: &WorkspaceId,
            id: &$id,
            version: u32,
        ) -> Result<Option<$record>, StoreError> {
            store
                .find(
                    concat!("select a.id, a.workspace_id, v.version, v.definition, a.created_at, v.created_at \
                     from ", $table, " a join ", $versions, " v on v.workspace_id = a.workspace_id and v.", $column, " = a.id \
                     where a.workspace_id = $1 and a.id = $2 and v.version = $3"),
                    args![workspace_id, id, version],
                    record,
                )
                .await
        }

        /// Newest first.
        pub async fn list(
            store: &Store,
            workspace_id: &WorkspaceId,
            page: &PageRequest,
        ) -> Result<Page<$record>, StoreError> {
            let after = Cursor::after(page.after.as_deref())?;
            let found = store
                .all(
                    concat!("select a.id, a.workspace_id, a.version, v.definition, a.created_at, a.updated_at \
                     from ", $table, " a join ", $versions, " v \
                     on v.workspace_id = a.workspace_id and v.", $column, " = a.id and v.version = a.version \
                     where a.workspace_id = $1 and a.deleted_at is null and (a.created_at, a.id) < ($2, $3) \
                     order by a.created_at desc, a.id desc limit $4"),
                    args![workspace_id, after.at_ms, after.id, page.limit.saturating_add(1)],
                    record,
                )
                .await?;
            Ok(Page::cut(found, page.limit, |found| Cursor::text(found.created_at, found.id.as_str())))
        }

        /// A taken id is a [`StoreError::Conflict`]. A deleted one's id is free
        /// again, and its versions go on counting.
        #[derive(Clone, Debug)]
        pub struct Create {
            pub workspace_id: WorkspaceId,
            pub id: $id,
            pub definition: $definition,
            pub at: Timestamp,
        }

        impl Write for Create {
            type Output = $record;

            async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<$record, StoreError> {
                tx.changes_definitions();
                let definition = to_json(&self.definition)?;
                let made = tx
                    .returning(
                        concat!("insert into ", $table, " (workspace_id, id, version, created_at, updated_at) \
                         values ($1, $2, 1, $3, $3) on conflict (workspace_id, id) do update \
                         set version = ", $table, ".version + 1, created_at = excluded.created_at, \
                         updated_at = excluded.updated_at, deleted_at = null \
                         where ", $table, ".deleted_at is not null returning version"),
                        args![&self.workspace_id, &self.id, self.at],
                    )
                    .await?;
                let Some(row) = made.first() else {
                    return Err(StoreError::Conflict(format!("there is {} `{}` already", $a_word, self.id)));
                };
                let version = Columns::of(row).number()?;
                insert_version(tx, &self.workspace_id, &self.id, version, definition, self.at).await?;
                Ok($record {
                    id: self.id.clone(),
                    workspace_id: self.workspace_id.clone(),
                    version,
                    definition: self.definition.clone(),
                    created_at: self.at,
                    updated_at: self.at,
                })
            }
        }

        async fn insert_version(
            tx: &mut Tx,
            workspace_id: &WorkspaceId,
            id: &$id,
            version: u32,
            definition: String,
            at: Timestamp,
        ) -> Result<(), StoreError> {
            tx.execute(
                concat!("insert into ", $versions, " (workspace_id, ", $column, ", version, definition, created_at) \
                 values ($1, $2, $3, $4, $5)"),
                args![workspace_id, id, version, definition, at],
            )
            .await
            .map(drop)
        }

        /// Makes a new version.
        #[derive(Clone, Debug)]
        pub struct Change {
            pub workspace_id: WorkspaceId,
            pub id: $id,
            pub definition: $definition,
            /// The version that `definition` was derived from; another one by now is a
            /// [`StoreError::Conflict`], so that no change is lost.
            pub from_version: u32,
            pub at: Timestamp,
        }

        impl Write for Change {
            /// None when the workspace has none such.
            type Output = Option<$record>;

            async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Option<$record>, StoreError> {
                tx.changes_definitions();
                let definition = to_json(&self.definition)?;
                let version = self.from_version.saturating_add(1);
                let changed = tx
                    .returning(
                        concat!("update ", $table, " set version = $1, updated_at = $2 where workspace_id = $3 and id = $4 \
                         and deleted_at is null and version = $5 returning created_at"),
                        args![version, self.at, &self.workspace_id, &self.id, self.from_version],
                    )
                    .await?;
                let Some(row) = changed.first() else { return self.not_changed(tx).await };
                let created_at = Columns::of(row).time()?;
                insert_version(tx, &self.workspace_id, &self.id, version, definition, self.at).await?;
                Ok(Some($record {
                    id: self.id.clone(),
                    workspace_id: self.workspace_id.clone(),
                    version,
                    definition: self.definition.clone(),
                    created_at,
                    updated_at: self.at,
                }))
            }
        }

        impl Change {
            /// Tells a missing one from one that somebody else has changed.
            async fn not_changed(&self, tx: &mut Tx) -> Result<Option<$record>, StoreError> {
                let rows = tx
                    .select(
                        concat!("select version from ", $table, " where workspace_id = $1 and id = $2 and deleted_at is null"),
                        args![&self.workspace_id, &self.id],
                    )
                    .await?;
                match rows.first() {
                    None => Ok(None),
                    Some(row) => Err(StoreError::Conflict(format!(
                        "{} `{}` was changed meanwhile: it is at version {}, not {}; read it and try again",
                        $a_word,
                        self.id,
                        Columns::of(row).int()?,
                        self.from_version
                    ))),
                }
            }
        }

        /// Hides it; its versions stay for the runs that began with them.
        #[derive(Clone, Debug)]
        pub struct Delete {
            pub workspace_id: WorkspaceId,
            pub id: $id,
            pub at: Timestamp,
        }

        impl Write for Delete {
            /// False when the workspace has none such.
            type Output = bool;

            async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
                tx.changes_definitions();
                let deleted = tx
                    .execute(
                        concat!("update ", $table, " set deleted_at = $1 where workspace_id = $2 and id = $3 and deleted_at is null"),
                        args![self.at, &self.workspace_id, &self.id],
                    )
                    .await?;
                Ok(deleted > 0)
            }
        }
    };
}
pub(crate) use versioned;
