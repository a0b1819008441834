-- Each reservation is a thing of its own, which only its own settlement takes
-- away: the row is the witness that its call was not counted yet. What was
-- reserved until now belongs to processes that this step has outlived.

drop table budget_reservations;
create table budget_reservations (
    workspace_id TEXT not null,
    account TEXT not null,
    -- Of this reservation alone.
    token TEXT not null,
    -- Of the call: made again, it takes its own place, and what it had reserved
    -- before holds nothing any more.
    id TEXT not null,
    picodollars BIGINT not null,
    tokens BIGINT not null,
    steps BIGINT not null,
    -- From then on it no longer counts: whoever made it has died.
    expires_at BIGINT not null,
    primary key (workspace_id, account, token)
) TABLE_OPTIONS;
create index budget_reservations_oldest on budget_reservations (expires_at);
