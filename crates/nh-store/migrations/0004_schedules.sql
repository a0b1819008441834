-- Runs that begin by themselves, by a cron pattern.
create table schedules (
    workspace_id TEXT not null references workspaces (id),
    id TEXT not null,
    -- What it starts, and when, as JSON.
    definition TEXT not null,
    enabled BIGINT not null,
    -- Who made it or changed it last: its runs may do what they may.
    created_by TEXT not null,
    scopes TEXT not null,
    -- When it is looked at next; null: never again by itself.
    next_at BIGINT,
    last_at BIGINT,
    last_run_id TEXT,
    last_error TEXT,
    created_at BIGINT not null,
    updated_at BIGINT not null,
    primary key (workspace_id, id)
) TABLE_OPTIONS;
create index schedules_newest on schedules (workspace_id, created_at, id);
create index schedules_due on schedules (next_at) where next_at is not null;
