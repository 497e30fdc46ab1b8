-- +goose Up
set lock_timeout = '5s';

-- A process that took a task up and has not begun its effect yet is not killed by it: aside tells the reaper. Of a
-- paused task it says that nobody paused it: it waits for the end of its children, to be moved.
alter table task_hot add column aside boolean not null default false;

-- Phase 4 is paused. No index knows it, so paused tasks cost a claim nothing.
alter table task_hot drop constraint if exists task_hot_phase_check,
  add constraint task_hot_phase_check check (phase between 0 and 4);

-- Who paused a task, and when; a row for as long as the task is paused.
create table task_pause (
  task_id bigint      primary key,
  at      timestamptz not null default now(),
  by      text        not null,
  reason  text        not null default ''
);

-- Each leg has items of its own, from the original on.
alter table item drop constraint item_pkey, add primary key (task_id, leg, id);

alter table command drop constraint if exists command_verb_check;   -- package gantry knows the verbs

-- Which version of a pipeline was served last: the one that moved tasks go to.
alter table pipeline_version add column served_at timestamptz;

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert, update, delete on task_pause to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select on task_pause to gantry_auditor;
  end if;
end $$;
-- +goose StatementEnd
