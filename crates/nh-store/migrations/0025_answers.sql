-- What a call would have cost that was answered from what is kept.
alter table model_calls add column saved_usd DOUBLE;

-- Chat answers that may be given again to the same request of the same workspace.
create table chat_answers (
    workspace_id TEXT not null references workspaces (id),
    -- SHA-256 of the request.
    request BYTES not null,
    answer TEXT not null,
    -- US dollars; absent: not known.
    cost_usd DOUBLE,
    created_at BIGINT not null,
    expires_at BIGINT not null,
    primary key (workspace_id, request)
) TABLE_OPTIONS;
create index chat_answers_oldest on chat_answers (workspace_id, created_at);
create index chat_answers_expiring on chat_answers (expires_at);
