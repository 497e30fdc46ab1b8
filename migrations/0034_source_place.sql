-- +goose Up
set lock_timeout = '5s';

-- Which bucket a source takes from (s3 aws/name, s3 host:port/name): its arrivals and its progress are of that one alone. Null: nobody
-- watched it since an older version, it is no bucket, or gantry source moved.
alter table source_state add column place text;
