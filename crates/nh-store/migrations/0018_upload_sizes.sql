-- Bytes of the parts of an upload together, so that none of them is read for it.
alter table blob_uploads add column size BIGINT not null default 0;
update blob_uploads set size =
    (select coalesce(sum(p.size), 0) from blob_parts p where p.upload_id = blob_uploads.id);
