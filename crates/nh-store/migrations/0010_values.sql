-- Values that are too large for the row that refers to them: the bytes of a JSON
-- text, in parts of 256 KiB. A row's column of JSON then holds `@` and their
-- number, which is no JSON; an event says in its first field, `large`, which of
-- its fields is here.
create table run_values (
    run_id TEXT not null,
    -- `input`, `definition`, `result`; of event 12 `12.output` and the like.
    name TEXT not null,
    -- From 0.
    part BIGINT not null,
    data BYTES not null,
    primary key (run_id, name, part)
) TABLE_OPTIONS;
