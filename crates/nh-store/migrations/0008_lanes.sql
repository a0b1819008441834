-- The line in which a run queues: its workspace, and behind it the groups of
-- runs whose number under way is bounded (src/runs/lane.rs).
alter table runs add column lane TEXT not null default '';
update runs set lane = workspace_id;

drop index runs_ready;
create index runs_ready on runs (lane, priority desc, id) where ready = 1;
-- Those under way that count against a bound.
create index runs_bounded on runs (workspace_id, lane) where owner is not null and lane <> workspace_id;

-- How many turns a workspace has in the queue's round, and how many of its
-- runs may be under way; null: as many as there are slots.
alter table workspaces add column weight BIGINT not null default 1;
alter table workspaces add column max_running BIGINT;
create index workspaces_bounded on workspaces (id) where weight <> 1 or max_running is not null;

-- A conversation: its runs follow each other.
alter table runs add column thread_id TEXT;
-- Its place in the thread, from 1.
alter table runs add column thread_seq BIGINT;
-- The run of the same thread after which this one begins, while that goes on.
alter table runs add column after_id TEXT;
create index runs_thread on runs (workspace_id, thread_id, thread_seq) where thread_id is not null;
create index runs_held on runs (after_id) where after_id is not null;

create table threads (
    workspace_id TEXT not null references workspaces (id),
    id TEXT not null,
    last_run_id TEXT not null,
    last_seq BIGINT not null,
    created_at BIGINT not null,
    primary key (workspace_id, id)
) TABLE_OPTIONS;
