-- +goose Up
set lock_timeout = '5s';

-- What a child is about, as ranges of the ids of items: those of the task at the top, whose media its
-- parent and its parent's parent share.
alter table task add column members int4multirange;
create index task_parent on task (parent) where parent is not null;
