-- +goose Up
set lock_timeout = '5s';

-- How many answers came to a task as callbacks. What is about to park it compares the number with the one that it
-- has seen. No index mentions it.
alter table task_hot add column answers int not null default 0;

alter table part
  add column submits      smallint not null default 0,   -- how often it was submitted, over all its lives
  add column out_deadline timestamptz;                   -- until then it may be out, whatever signs of life come

-- Every answer that a service sent on its own and whose token is ours. Append-only.
create table callback (
  id         uuid     primary key,       -- version 7, made by the process that took it
  task_id    bigint   not null,
  at         timestamptz not null default clock_timestamp(),
  xid        xid8     not null default pg_current_xact_id(),
  size       bigint   not null,
  ordinal    int      not null,
  leg        smallint not null,
  stage      smallint not null,
  processor  smallint not null,
  generation smallint not null,
  try        smallint not null,          -- which submission of its part it answers
  status     smallint not null check (status between 0 and 2),    -- running, done, failed
  verdict    smallint not null check (verdict between 0 and 4),   -- accepted, duplicate, late, forged, running
  sha        bytea    not null,
  header     text,                       -- of an accepted one: what of the request's header says how to read the body
  location   text,                       -- of an accepted one: where in the blob store its body lies
  body       bytea                       -- of an accepted one: the body itself, if it is small
);
alter table callback alter body set storage external;
create unique index callback_first on callback (task_id, leg, stage, processor, ordinal, generation, try) where verdict = 0;
create index callback_task on callback (task_id) where verdict <> 0;
create trigger append_only before update or delete on callback for each row execute function refuse_change();
create trigger append_only_whole before truncate on callback for each statement execute function refuse_change();

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert on callback to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select (id, task_id, at, xid, size, ordinal, leg, stage, processor, generation, try, status, verdict, sha) on callback
      to gantry_auditor, gantry_sealer;
  end if;
end $$;
-- +goose StatementEnd
