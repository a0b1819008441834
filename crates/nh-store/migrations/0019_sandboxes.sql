-- Sandboxes that run, and for a while how those ended that did. `node` is the
-- process that has one; it holds it until `held_until`, by the database's clock.
create table sandboxes (
    id TEXT primary key,
    workspace_id TEXT not null references workspaces (id),
    node TEXT not null,
    held_until BIGINT not null,
    template TEXT not null,
    isolation TEXT not null,
    state TEXT not null,
    stop_reason TEXT,
    created_by TEXT not null,
    -- The run that it is for, and ends with.
    run_id TEXT,
    memory_mb BIGINT not null,
    cpu_millis BIGINT not null,
    created_at BIGINT not null,
    expires_at BIGINT not null,
    stopped_at BIGINT
) TABLE_OPTIONS;
create index sandboxes_newest on sandboxes (workspace_id, created_at, id);
create index sandboxes_live on sandboxes (node) where stopped_at is null;
create index sandboxes_of_runs on sandboxes (run_id) where run_id is not null and stopped_at is null;
create index sandboxes_stopped on sandboxes (stopped_at) where stopped_at is not null;
