-- Runs that wait: for a word from outside, or for a run of their own.

-- The run that waits for this one, and the step of it that does.
alter table runs add column parent_id TEXT;
alter table runs add column parent_step TEXT;
-- How many rows of run_signals are not taken.
alter table runs add column signals BIGINT not null default 0;

-- What was told to a run: kept until the run has it in its journal, and after
-- that so that a repeat is known as one.
create table run_signals (
    run_id TEXT not null,
    -- The sender's, or made here.
    id TEXT not null,
    name TEXT not null,
    sent_by TEXT not null,
    at BIGINT not null,
    taken BIGINT not null default 0,
    data TEXT not null,
    primary key (run_id, id)
) TABLE_OPTIONS;

-- Lists show runs that nobody waits for, or those of one parent.
drop index runs_newest;
create index runs_newest on runs (workspace_id, id) where parent_id is null;
create index runs_children on runs (parent_id, id) where parent_id is not null;

create table workflows (
    workspace_id TEXT not null references workspaces (id),
    id TEXT not null,
    version BIGINT not null,
    created_at BIGINT not null,
    updated_at BIGINT not null,
    deleted_at BIGINT,
    primary key (workspace_id, id)
) TABLE_OPTIONS;
create index workflows_newest on workflows (workspace_id, created_at, id) where deleted_at is null;

create table workflow_versions (
    workspace_id TEXT not null,
    workflow_id TEXT not null,
    version BIGINT not null,
    definition TEXT not null,
    created_at BIGINT not null,
    primary key (workspace_id, workflow_id, version),
    foreign key (workspace_id, workflow_id) references workflows (workspace_id, id)
) TABLE_OPTIONS;
