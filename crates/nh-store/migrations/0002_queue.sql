-- What the queue needs to know of a run that nobody drives: whether it may be
-- taken up now, when it is to be looked at again, and how urgent it is.

alter table runs add column priority BIGINT not null default 0;
-- 1: unowned, and may be taken up.
alter table runs add column ready BIGINT not null default 0;
-- Of an unowned run: when its delay, its timer or its deadline is over.
alter table runs add column wake_at BIGINT;
-- From when the run may begin to its deadline.
alter table runs add column timeout_ms BIGINT;

update runs set timeout_ms = deadline_at - created_at where deadline_at is not null;
update runs set ready = 1, wake_at = deadline_at
    where finished_at is null and owner is null and state in ('PENDING', 'RUNNING');
update runs set wake_at = deadline_at
    where finished_at is null and owner is null and state not in ('PENDING', 'RUNNING');

create index runs_ready on runs (workspace_id, priority desc, id) where ready = 1;
create index runs_asleep on runs (wake_at) where wake_at is not null;
create index runs_waiting on runs (workspace_id) where state = 'PENDING' and owner is null;
