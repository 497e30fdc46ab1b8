-- +goose Up
set lock_timeout = '5s';

-- The database's own id, by which its blob store knows whose blobs it holds. It is made when a blob store is first opened and
-- goes into every backup, so that one that is put back is the same database.
create table database_id (
  one boolean primary key default true check (one),
  id  text    not null,
  at  timestamptz not null default clock_timestamp()
);

-- Messages that tell of no object are kept for a while.
create index source_event_at on source_event (at);

-- What the last failure of a source was a failure of (poll, sqs, object, …; null: an older version did not say), and since when
-- that works again.
alter table source_state
  add column error_part text,
  add column error_over timestamptz;

-- An object that is a marker waits for the tasks of the groups that it said were complete, in all their revisions. By place: its
-- pipeline and its key, as in collection.
alter table aftercare
  add column pipelines text[],
  add column groups    bytea[],
  add check (cardinality(pipelines) = cardinality(groups));
create index aftercare_groups on aftercare using gin (groups) where groups is not null;

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert on database_id to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select on database_id to gantry_auditor;
  end if;
end $$;
-- +goose StatementEnd
