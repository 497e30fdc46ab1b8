-- +goose Up
set lock_timeout = '5s';
-- Tasks that wait for a time, for children or for an operator, by lane. Those of lanes whose only process is gone are looked
-- for twice a second by every process, which would read the whole queue without this. A task that goes on from state to state
-- never writes it.
create index task_hot_parked on task_hot (lane) where phase > 1;
