-- +goose Up
set lock_timeout = '5s';

-- Garbage of the blob store. A blob that nothing refers to gets a tombstone (tomb_at) and is deleted after a grace.
-- leaving_at stands from before its deletion until its row goes: meanwhile nobody may rely on it.
alter table blob add column leaving_at timestamptz;
create index blob_tomb on blob (tomb_at) where tomb_at is not null;

-- The blob store that this database belongs to, by its own identity.
create table blob_store (
  one boolean primary key default true check (one),
  id  text    not null,
  at  timestamptz not null default clock_timestamp()
);

create index item_blob     on item     (location) where location like 'sha/%';
create index arrival_blob  on arrival  (location) where location like 'sha/%';
create index callback_blob on callback (location) where location like 'sha/%';

-- Everything that refers to a blob which is an object or a file of its own. A column of another table that
-- holds locations belongs in here, with an index such as those above.
create view blob_use as
  select location from item     where location like 'sha/%'
  union all
  select location from arrival  where location like 'sha/%'
  union all
  select location from callback where location like 'sha/%';

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert, update, delete on blob, blob_store to gantry_app;
    grant select on blob_use to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select on blob_store to gantry_auditor;
  end if;
end $$;
-- +goose StatementEnd
