-- +goose Up
set lock_timeout = '5s';

-- Where the event that told of an object stands among those of its object: the greater, the later.
alter table arrival add column event text collate "C";

-- Messages to sources that tell of no object: nobody understands them, or they are about another bucket.
create table source_event (
  id      bigint generated always as identity primary key,
  source  text        not null,                   -- pipeline/source, as in arrival
  at      timestamptz not null default clock_timestamp(),
  channel text        not null,                   -- webhook or sqs
  code    text        not null,                   -- why it tells of no object
  size    bigint      not null,                   -- bytes of the message
  sha     bytea       not null check (length(sha) = 32),   -- of all of them
  body    bytea       check (length(body) <= 65536),       -- its beginning; erasable, it may hold names of people
  unique (source, sha)                            -- the same one again, or given twice, is on record once
);

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert, update, delete on source_event to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select (id, source, at, channel, code, size, sha) on source_event to gantry_auditor;
  end if;
end $$;
-- +goose StatementEnd
