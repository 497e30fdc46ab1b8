-- +goose Up
set lock_timeout = '5s';

-- What of a pipeline's file says which of its tasks go first. It is no part of a version: it holds for tasks of all
-- versions as soon as the file was read, in every process.
create table pipeline_order (
  pipeline text primary key,
  rules    text not null,                -- JSON: priority, order, offpeak, as in the file
  offpeak  text not null default '',     -- the windows alone, for whoever claims; empty: any time
  at       timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

-- How many urgent callers of a process wait for a unit: others give way to them at the next end of a call.
alter table limit_grant add column urgent int not null default 0 check (urgent >= 0);

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert, update, delete on pipeline_order to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select on pipeline_order to gantry_auditor;
  end if;
end $$;
-- +goose StatementEnd
