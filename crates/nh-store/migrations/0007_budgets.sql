-- What runs and keys may spend: the ledger of accounts, each the sum of what
-- was settled, and what calls under way may cost at most.

create table budget_accounts (
    workspace_id TEXT not null,
    -- `run:ID`, or `key:NUMBER:YEAR-MONTH`.
    account TEXT not null,
    picodollars BIGINT not null,
    tokens BIGINT not null,
    steps BIGINT not null,
    primary key (workspace_id, account)
) TABLE_OPTIONS;

create table budget_reservations (
    workspace_id TEXT not null,
    account TEXT not null,
    -- Of the call: the same call, made again, takes its own place.
    id TEXT not null,
    picodollars BIGINT not null,
    tokens BIGINT not null,
    steps BIGINT not null,
    -- From then on it no longer counts: whoever made it has died.
    expires_at BIGINT not null,
    primary key (workspace_id, account, id)
) TABLE_OPTIONS;

-- US dollars a calendar month.
alter table api_keys add column budget_usd DOUBLE;
-- What each run of the key may cost and take, as JSON.
alter table api_keys add column run_limits TEXT;
