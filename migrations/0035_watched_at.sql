-- +goose Up
set lock_timeout = '5s';

-- Until when what comes to a source was seen: the last report of a process that could look at it. Null: until the last report.
alter table source_state add column watched_at timestamptz;
