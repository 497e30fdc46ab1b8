-- +goose Up
set lock_timeout = '5s';

-- How long a task of the version may be extracting: its claim begins that state. 0: not known, as of versions that were
-- recorded before and not served since; the time that the task may be queued goes on then.
alter table pipeline_version add column extracting_us bigint not null default 0 check (extracting_us >= 0);
