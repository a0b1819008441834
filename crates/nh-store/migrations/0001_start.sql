-- One text for both engines; the words in capitals are replaced per engine
-- (src/dialect.rs). Times are milliseconds since 1970, flags 0 or 1, JSON is
-- text, hashes are 32 bytes. Rows that are written often have no foreign keys:
-- whoever writes them has just proved the workspace.

create table meta (
    name TEXT primary key,
    value BYTES not null
) TABLE_OPTIONS;

create table credential_epoch (
    id BIGINT primary key check (id = 1),
    epoch BIGINT not null
) TABLE_OPTIONS;
insert into credential_epoch (id, epoch) values (1, 1);

create table workspaces (
    id TEXT primary key,
    name TEXT not null unique,
    created_at BIGINT not null,
    last_key_id BIGINT not null default 0
) TABLE_OPTIONS;
create index workspaces_newest on workspaces (created_at, id);

create table api_keys (
    workspace_id TEXT not null references workspaces (id),
    id BIGINT not null,
    name TEXT not null,
    prefix TEXT not null,
    hash BYTES not null unique,
    scopes TEXT not null,
    created_at BIGINT not null,
    expires_at BIGINT,
    rate_limit BIGINT,
    last_used_at BIGINT,
    revoked_at BIGINT,
    primary key (workspace_id, id)
) TABLE_OPTIONS;

create table users (
    id TEXT primary key,
    email TEXT not null unique,
    password_hash TEXT not null,
    created_at BIGINT not null
) TABLE_OPTIONS;

create table memberships (
    user_id TEXT not null references users (id),
    workspace_id TEXT not null references workspaces (id),
    role TEXT not null,
    created_at BIGINT not null,
    primary key (user_id, workspace_id)
) TABLE_OPTIONS;

create table sessions (
    token_hash BYTES primary key,
    user_id TEXT not null references users (id),
    workspace_id TEXT not null references workspaces (id),
    created_at BIGINT not null,
    expires_at BIGINT not null,
    last_seen_at BIGINT not null
) TABLE_OPTIONS;

create table agents (
    workspace_id TEXT not null references workspaces (id),
    id TEXT not null,
    version BIGINT not null,
    created_at BIGINT not null,
    updated_at BIGINT not null,
    deleted_at BIGINT,
    primary key (workspace_id, id)
) TABLE_OPTIONS;
create index agents_newest on agents (workspace_id, created_at, id) where deleted_at is null;

create table agent_versions (
    workspace_id TEXT not null,
    agent_id TEXT not null,
    version BIGINT not null,
    definition TEXT not null,
    created_at BIGINT not null,
    primary key (workspace_id, agent_id, version),
    foreign key (workspace_id, agent_id) references agents (workspace_id, id)
) TABLE_OPTIONS;

-- The columns that may be long stand last: what reads the others need not pass
-- over them.
create table runs (
    id TEXT primary key,
    workspace_id TEXT not null,
    target TEXT not null,
    run_type TEXT not null,
    state TEXT not null,
    scopes TEXT not null,
    created_by TEXT not null,
    created_at BIGINT not null,
    started_at BIGINT,
    finished_at BIGINT,
    deadline_at BIGINT,
    owner TEXT,
    epoch BIGINT not null,
    cancel_requested BIGINT not null,
    last_seq BIGINT not null,
    usage TEXT not null,
    error TEXT,
    metadata TEXT not null,
    input TEXT not null,
    definition TEXT not null,
    result TEXT
) TABLE_OPTIONS;
-- Ids are UUIDv7, so their order is that of creation.
create index runs_newest on runs (workspace_id, id);
create index runs_unfinished on runs (owner, id) where finished_at is null;

create table run_events (
    run_id TEXT not null,
    seq BIGINT not null,
    kind TEXT not null,
    at BIGINT not null,
    data TEXT not null,
    primary key (run_id, seq)
) CLUSTERED_OPTIONS;

create table nodes (
    id TEXT primary key,
    expires_at BIGINT not null
) TABLE_OPTIONS;

create table idempotency (
    owner TEXT not null,
    request_key TEXT not null,
    body_hash BYTES not null,
    answer TEXT not null,
    created_at BIGINT not null,
    primary key (owner, request_key)
) TABLE_OPTIONS;
create index idempotency_oldest on idempotency (created_at);

create table model_calls (
    workspace_id TEXT not null,
    at BIGINT not null,
    key_id BIGINT,
    run_id TEXT,
    provider TEXT not null,
    model TEXT not null,
    kind TEXT not null,
    input_tokens BIGINT not null,
    output_tokens BIGINT not null,
    cached_tokens BIGINT not null,
    reasoning_tokens BIGINT not null,
    cost_usd DOUBLE,
    estimated BIGINT not null
) TABLE_OPTIONS;
create index model_calls_newest on model_calls (workspace_id, at);

create table secrets (
    workspace_id TEXT not null references workspaces (id),
    owner_table TEXT not null,
    row_id TEXT not null,
    key_id BYTES not null,
    sealed BYTES not null,
    primary key (workspace_id, owner_table, row_id)
) TABLE_OPTIONS;
