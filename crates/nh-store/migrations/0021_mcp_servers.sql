-- Servers of the Model Context Protocol that a workspace registered.
create table mcp_servers (
    workspace_id TEXT not null references workspaces (id),
    name TEXT not null,
    definition TEXT not null,
    -- What was last seen of it, its tools among that, as JSON.
    seen TEXT not null,
    -- Times in a row that it could not be used.
    failures BIGINT not null,
    checked_at BIGINT,
    -- When it is asked again; whoever asks moves this first.
    next_at BIGINT not null,
    created_by TEXT not null,
    created_at BIGINT not null,
    updated_at BIGINT not null,
    primary key (workspace_id, name)
) TABLE_OPTIONS;
create index mcp_servers_due on mcp_servers (next_at);
