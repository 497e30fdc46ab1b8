-- +goose Up
set lock_timeout = '5s';
-- Room on a page for new versions of its rows, so that an update writes no index. The rows of a page of task_hot are
-- claimed together, which is never HOT since the ready index holds their phase, and then go on together: three versions
-- of each may be there before the first is pruned. A task's one update is its last, and makes it longer; a part has one
-- as well.
alter table task_hot set (fillfactor = 25);
alter table task set (fillfactor = 45);
alter table part set (fillfactor = 45);
