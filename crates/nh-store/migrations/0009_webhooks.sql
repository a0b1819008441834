-- Who is told of a run's end.
alter table runs add column webhook_url TEXT;

-- What is owed to them: a run ends once, so each has one delivery.
create table webhook_deliveries (
    run_id TEXT primary key,
    workspace_id TEXT not null,
    -- The state in which the run ended.
    run_state TEXT not null,
    url TEXT not null,
    -- The line in which it waits: the workspace and the URL's host.
    lane TEXT not null,
    state TEXT not null,
    created_at BIGINT not null,
    -- Of one that is pending: when it is tried, or, while it is being tried,
    -- when whoever does so is taken for dead.
    next_at BIGINT,
    -- Raised by every claim; a writer with an older one does not change the state.
    epoch BIGINT not null,
    -- Tries that failed since it was last begun.
    failures BIGINT not null,
    attempt_count BIGINT not null,
    last_status_code BIGINT,
    last_error TEXT
) TABLE_OPTIONS;
create index webhook_deliveries_newest on webhook_deliveries (workspace_id, created_at, run_id);
create index webhook_deliveries_pending on webhook_deliveries (lane, next_at) where next_at is not null;

create table webhook_attempts (
    run_id TEXT not null,
    -- The epoch of its claim.
    number BIGINT not null,
    at BIGINT not null,
    duration_ms BIGINT not null,
    status_code BIGINT,
    error TEXT,
    -- The beginning of an answer that was no 2xx.
    response TEXT,
    primary key (run_id, number)
) CLUSTERED_OPTIONS;

-- The secrets that sign; they themselves are in `secrets`, sealed.
create table webhook_secrets (
    workspace_id TEXT not null references workspaces (id),
    id TEXT not null,
    created_at BIGINT not null,
    -- Of one that was rotated out: until then it signs beside the current one.
    expires_at BIGINT,
    primary key (workspace_id, id)
) TABLE_OPTIONS;
create unique index webhook_secrets_current on webhook_secrets (workspace_id) where expires_at is null;
