-- +goose Up
set lock_timeout = '5s';

-- How many tasks a process takes at once: gantry task why tells one that is full.
alter table worker add column places int check (places > 0);
