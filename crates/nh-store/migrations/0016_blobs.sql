-- Objects by pathname. A row is there once all of its bytes are durable, and
-- the bytes are never changed: what is uploaded under the same name has others.
create table blobs (
    workspace_id TEXT not null references workspaces (id),
    pathname TEXT not null,
    bytes_id TEXT not null,
    size BIGINT not null,
    sha256 BYTES not null,
    content_type TEXT not null,
    access TEXT not null,
    -- How long a cache may keep it, in seconds.
    cache_seconds BIGINT,
    uploaded_at BIGINT not null,
    expires_at BIGINT,
    created_by TEXT not null,
    run_id TEXT,
    step TEXT,
    primary key (workspace_id, pathname)
) CLUSTERED_OPTIONS;
create index blobs_expiring on blobs (expires_at) where expires_at is not null;

-- What objects consist of. Copies share it.
create table blob_bytes (
    id TEXT primary key,
    -- Objects that have it.
    refs BIGINT not null,
    -- The bytes, where they are few.
    data BYTES,
    -- Else where they are, in order: [[place, size], …].
    pieces TEXT
) TABLE_OPTIONS;

-- Places outside the database that no object has (yet, or any more): they are
-- emptied from `until` on. Whoever fills one holds off that moment.
create table blob_waste (
    place TEXT primary key,
    until BIGINT not null
) TABLE_OPTIONS;
create index blob_waste_due on blob_waste (until);

-- What a workspace's objects take. Whoever changes one locks this row first.
create table blob_totals (
    workspace_id TEXT primary key references workspaces (id),
    blobs BIGINT not null,
    size BIGINT not null
) TABLE_OPTIONS;
