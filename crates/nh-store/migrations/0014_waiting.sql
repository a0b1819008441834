-- Runs that wait, to be counted for the metrics without reading them.
create index runs_that_wait on runs (id) where state = 'WAITING' and owner is null;
