//! Whether there is pgvector, and the tables that need it.

use crate::columns::Columns;
use crate::sql::{Session, args};
use crate::{Store, StoreError};

/// Before this, an index that meets too few that count gives up.
const MIN_VERSION: (u32, u32) = (0, 8);

const TABLES: [&str; 6] = [
    "create table if not exists memory_ann ( \
     workspace_id text collate \"C\" not null, model text collate \"C\" not null, \
     memory_id text collate \"C\" not null, part bigint not null, namespace text collate \"C\" not null, \
     expires_at bigint, written integer[], embedding SCHEMA.vector not null, \
     primary key (workspace_id, model, memory_id, part))",
    "create index if not exists memory_ann_written on memory_ann using gin (written)",
    // These begin with what only they are for, so that nothing else is sought in them.
    "create index if not exists memory_ann_namespace on memory_ann (namespace, workspace_id, model)",
    "create index if not exists memory_ann_expiring on memory_ann (expires_at, workspace_id, model) \
     where expires_at is not null",
    "create table if not exists memory_ann_spaces ( \
     workspace_id text collate \"C\" not null, model text collate \"C\" not null, revision bigint not null, \
     is_ready bigint not null, primary key (workspace_id, model))",
    "create table if not exists memory_ann_unreached ( \
     workspace_id text collate \"C\" not null, model text collate \"C\" not null, \
     memory_id text collate \"C\" not null, part bigint not null, \
     primary key (workspace_id, model, memory_id, part), \
     foreign key (workspace_id, model, memory_id, part) references memory_ann on delete cascade)",
];

/// pgvector in the store's database, with the tables that are searched by it.
#[derive(Clone, Debug)]
pub struct Pgvector {
    /// The schema that it is in, quoted.
    pub(super) schema: String,
}

/// Looks for pgvector, has it ready for use, and makes the tables; or tells what
/// is missing and how to get it.
pub async fn pgvector(store: &Store) -> Result<Result<Pgvector, String>, StoreError> {
    let Some(mut session) = store.begin().await? else {
        return Ok(Err("pgvector is a part of PostgreSQL, and the rows are in SQLite".to_owned()));
    };
    match install(&mut session).await {
        Ok(Ok(found)) => {
            session.commit().await?;
            Ok(Ok(found))
        }
        Ok(Err(missing)) => Ok(Err(missing)),
        Err(StoreError::Database(error)) => Ok(Err(format!(
            "pgvector could not be made ready ({error}); as the database's owner run: create extension vector"
        ))),
        Err(error) => Err(error),
    }
}

async fn install(session: &mut Session) -> Result<Result<Pgvector, String>, StoreError> {
    // One process at a time in the whole database: `if not exists` does not hold off others.
    session
        .select(
            "select pg_advisory_xact_lock(hashtextextended('neuralhub create extension vector', 0))",
            args![],
        )
        .await?;
    let mut found = extension(session).await?;
    if found.is_none() {
        let available =
            session.select("select 1 from pg_available_extensions where name = 'vector'", args![]).await?;
        if available.is_empty() {
            return Ok(Err("this PostgreSQL has no pgvector; install it beside the server (on Debian the \
                           package postgresql-NN-pgvector) and start the hub again"
                .to_owned()));
        }
        // Not in the store's own schema: the database has it but once.
        session.select("create extension vector with schema public", args![]).await?;
        found = extension(session).await?;
    }
    let Some((version, schema)) = found else { return Ok(Err("pgvector is not there".to_owned())) };
    if !is_new_enough(&version) {
        let (major, minor) = MIN_VERSION;
        return Ok(Err(format!(
            "pgvector is {version}, and {major}.{minor} or newer is needed; install that and run: \
             alter extension vector update"
        )));
    }
    for statement in TABLES {
        // Only the schema's name, quoted by PostgreSQL, was put into it.
        session.select(sqlx::AssertSqlSafe(statement.replace("SCHEMA", &schema)), args![]).await?;
    }
    Ok(Ok(Pgvector { schema }))
}

async fn extension(session: &mut Session) -> Result<Option<(String, String)>, StoreError> {
    let rows = session
        .select(
            "select extversion, quote_ident(nspname) from pg_extension \
             join pg_namespace on pg_namespace.oid = extnamespace where extname = 'vector'",
            args![],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut columns = Columns::of(row);
    Ok(Some((columns.text()?, columns.text()?)))
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= MIN_VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, expected) in [("0.7.4", false), ("0.8.0", true), ("0.10", true), ("1.0", true)] {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
    }
}
