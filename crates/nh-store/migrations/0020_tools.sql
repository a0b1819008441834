-- Tools that a workspace registered. A run keeps the definition that it began with.
create table tools (
    workspace_id TEXT not null references workspaces (id),
    name TEXT not null,
    definition TEXT not null,
    created_by TEXT not null,
    created_at BIGINT not null,
    updated_at BIGINT not null,
    primary key (workspace_id, name)
) TABLE_OPTIONS;
