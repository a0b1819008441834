-- Providers of models that a workspace registered. Their keys are among the secrets.
create table providers (
    workspace_id TEXT not null references workspaces (id),
    name TEXT not null,
    definition TEXT not null,
    created_by TEXT not null,
    created_at BIGINT not null,
    updated_at BIGINT not null,
    primary key (workspace_id, name)
) TABLE_OPTIONS;
