-- Sandboxes and stored bytes are in the ledger too: how many seconds or GB-hours a row is for, and
-- how many calls it counts as.
alter table model_calls add column quantity DOUBLE;
alter table model_calls add column calls BIGINT not null default 1;

-- Until when a sandbox was metered; null: it has not started. And how long it was by then.
alter table sandboxes add column metered_until BIGINT;
alter table sandboxes add column metered_ms BIGINT not null default 0;

-- Until when what a workspace stores was metered; 0: never.
alter table blob_totals add column metered_until BIGINT not null default 0;
create index blob_totals_metered on blob_totals (metered_until);
