//! A store with very many objects, and a bare reading of a page of them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rusqlite::{Connection, params};

/// Objects in each folder of a full store.
pub const IN_A_FOLDER: u64 = 1000;

/// The folder of this number, of a full store.
pub fn folder(number: u64) -> String {
    format!("data/{number:04}/")
}

/// Puts so many objects of a few bytes into the hub's file while no hub runs:
/// `data/0000/report-000.txt` and so on.
pub fn fill(file: &Path, workspace_id: &str, objects: u64) -> anyhow::Result<()> {
    let mut connection = Connection::open(file)?;
    connection.execute_batch("pragma synchronous = off; pragma cache_size = -262144")?;
    let tx = connection.transaction()?;
    let numbers = format!(
        "with recursive numbers (n) as (select 0 union all select n + 1 from numbers where n < {})",
        objects.saturating_sub(1)
    );
    tx.execute_batch(&format!(
        "{numbers} insert into blob_bytes (id, refs, data, pieces) \
         select printf('%026d', n), 1, cast('some text' as blob), null from numbers"
    ))?;
    let rows = format!(
        "{numbers} insert into blobs (workspace_id, pathname, bytes_id, size, sha256, content_type, access, \
         cache_seconds, uploaded_at, expires_at, created_by, run_id, step) \
         select ?1, printf('data/%04d/report-%03d.txt', n / ?2, n % ?2), printf('%026d', n), 9, randomblob(32), \
         'text/plain; charset=utf-8', 'private', null, 1790000000000 + n, null, 'key:1', null, null from numbers"
    );
    tx.execute(&rows, params![workspace_id, IN_A_FOLDER as i64])?;
    tx.execute(
        "insert into blob_totals (workspace_id, blobs, size) values (?1, ?2, 9 * ?2) \
         on conflict (workspace_id) do update set blobs = excluded.blobs, size = excluded.size",
        params![workspace_id, objects as i64],
    )?;
    tx.commit()?;
    connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
    Ok(())
}

/// How long it takes to read the rows of a page, in process; `pages` of them, one after
/// the other, from folders in turn.
pub fn bare_pages(file: &Path, workspace_id: &str, pages: u64, limit: u32) -> anyhow::Result<Vec<Duration>> {
    let connection = Connection::open(file)?;
    let mut select = connection.prepare(
        "select pathname, size, sha256, content_type, access, cache_seconds, uploaded_at, expires_at, created_by, \
         run_id, step from blobs where workspace_id = ?1 and pathname >= ?2 order by pathname limit ?3",
    )?;
    let mut times = Vec::new();
    for page in 0..pages {
        let began = Instant::now();
        let mut rows = select.query(params![workspace_id, folder(page), limit])?;
        let mut read = 0;
        while let Some(row) = rows.next()? {
            for column in 0..11 {
                let _: rusqlite::types::Value = row.get(column).context("a row")?;
            }
            read += 1;
        }
        times.push(began.elapsed());
        ensure!(read == limit, "{read} rows of {limit}");
    }
    times.sort_unstable();
    Ok(times)
}
