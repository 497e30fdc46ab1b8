-- +goose Up
set lock_timeout = '5s';

-- An update that finds no room in its row's page writes the row's lock, the row elsewhere and all its indexes
-- to the log. Each of these rows is updated a known number of times, soon after it was made.
alter table task_hot set (fillfactor = 35);
alter table task set (fillfactor = 55);
alter table part set (fillfactor = 55);

-- A reference locks the row that it names, with each task anew.
alter table task drop constraint task_pipeline_fkey;

-- Tasks come in the order of their creation, which a small index of ranges is enough for.
drop index task_created;
create index task_created on task using brin (created_at) with (pages_per_range = 16, autosummarize = on);
