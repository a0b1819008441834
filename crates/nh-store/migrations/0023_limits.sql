-- What a key's model calls are held to, as JSON.
alter table api_keys add column model_limits TEXT;

-- Accounts of one minute each, to be removed soon after it.
create index budget_accounts_minutes on budget_accounts (account) where account >= 'minute:' and account < 'minute;';
