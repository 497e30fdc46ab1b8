-- +goose Up
set lock_timeout = '5s';

-- What is to be done with an object at its source once all its tasks have ended. A row is laid before the arrival of the
-- same source, ref_mac and version is committed.
create table aftercare (
  id      bigint      generated always as identity primary key,
  source  text        not null,
  ref_mac bytea       not null,
  version text        not null,
  mark    text,                          -- how the source finds the object; erasable, and gone once nothing is to be done
  at      timestamptz not null default clock_timestamp(),
  due     timestamptz,                   -- when it is looked at next; null: nothing more is to be done
  ended   smallint,                      -- the state for which it was done last
  tries   smallint    not null default 0,
  code    text,                          -- why it was not done
  unique (source, ref_mac, version)
);
create index aftercare_due on aftercare (source, due) where due is not null;
create index if not exists task_collection on task (collection) where collection is not null;

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert, update, delete on aftercare to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select on aftercare to gantry_auditor;
  end if;
end $$;
-- +goose StatementEnd
