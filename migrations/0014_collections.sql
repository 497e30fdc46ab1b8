-- +goose Up
set lock_timeout = '5s';

-- A collection of one source of one pipeline. When it is closed, which locks its row, the task is made that
-- its members are the originals of.
alter table collection
  alter column revision type int,
  add column source    text        not null default '',   -- pipeline/source, as in arrival
  add column name      text,                              -- what its members have in common; erasable
  add column version   int         references pipeline_version,   -- that its task runs on
  add column lane      int,
  add column priority  smallint    not null default 5,
  add column cap       timestamptz,                       -- it is closed then at the latest
  add column closed_at timestamptz,
  add column reason    text,                              -- what closed it, or will
  add column marked    boolean     not null default false, -- its marker came
  add column last_at   timestamptz,                       -- when the last of its arrivals came
  add column within_us bigint      not null default 0;    -- how long its task may stay queued

create table collection_member (
  collection bigint not null,
  arrival    bigint not null,
  primary key (collection, arrival)
);
create index collection_due on collection (due) where not closed;
create index task_collection on task (collection) where collection is not null;
create index collection_member_arrival on collection_member (arrival);

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert, update, delete on collection_member to gantry_app;
  end if;
end $$;
-- +goose StatementEnd
