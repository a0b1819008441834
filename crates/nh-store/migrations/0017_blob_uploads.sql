-- Uploads in parts that are going on, and for a while those that are done.
create table blob_uploads (
    id TEXT primary key,
    workspace_id TEXT not null references workspaces (id),
    pathname TEXT not null,
    -- What the object is to be: JSON.
    wanted TEXT not null,
    created_at BIGINT not null,
    -- When it is given up, unless something more comes.
    expires_at BIGINT not null,
    -- The object that it became: JSON.
    completed TEXT
) TABLE_OPTIONS;
create index blob_uploads_of on blob_uploads (workspace_id, pathname, id);
create index blob_uploads_expiring on blob_uploads (expires_at);

-- The parts that came.
create table blob_parts (
    upload_id TEXT not null references blob_uploads (id),
    number BIGINT not null,
    size BIGINT not null,
    sha256 BYTES not null,
    -- Where it is: [[place, size], …].
    pieces TEXT not null,
    primary key (upload_id, number)
) CLUSTERED_OPTIONS;

-- Bytes of the parts of uploads that are not completed. They count in the quota.
alter table blob_totals add column uploading BIGINT not null default 0;
