-- What a workspace remembers. The embeddings are beside the memories, one row
-- for each model, so that all can be embedded by another one while searches go
-- on by the first.
create table memory_spaces (
    workspace_id TEXT primary key references workspaces (id),
    -- What searches go by.
    model TEXT not null,
    dimensions BIGINT not null,
    -- Raised by each memory that is written or changed, under this row's lock:
    -- whoever sees a revision sees all memories up to it.
    revision BIGINT not null,
    -- The revision from which on the model is in use.
    model_since BIGINT not null default 0,
    -- What all are being embedded by anew, and why that does not go on.
    next_model TEXT,
    next_error TEXT,
    -- Who sees to that, and until when unless it says so again.
    next_owner TEXT,
    next_until BIGINT
) TABLE_OPTIONS;

create table memories (
    workspace_id TEXT not null,
    id TEXT not null,
    namespace TEXT not null,
    content TEXT not null,
    -- SHA-256.
    content_hash BYTES not null,
    metadata TEXT not null,
    created_at BIGINT not null,
    updated_at BIGINT not null,
    expires_at BIGINT,
    created_by TEXT not null,
    run_id TEXT,
    step TEXT,
    revision BIGINT not null,
    -- The revision that it was written at first.
    born BIGINT not null,
    primary key (workspace_id, id)
) TABLE_OPTIONS;
create unique index memories_content on memories (workspace_id, namespace, content_hash);
create index memories_changed on memories (workspace_id, revision);
create index memories_newest on memories (workspace_id, created_at, id);
create index memories_expiring on memories (expires_at) where expires_at is not null;
create index memories_of_run on memories (workspace_id, run_id, id) where run_id is not null;

create table memory_vectors (
    workspace_id TEXT not null,
    memory_id TEXT not null,
    model TEXT not null,
    -- Of each part of the content, one after the other: little-endian 32-bit
    -- floats, each embedding of length 1.
    vectors BYTES not null,
    primary key (workspace_id, memory_id, model)
) TABLE_OPTIONS;
