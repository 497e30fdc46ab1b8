-- +goose Up
set lock_timeout = '5s';

-- What a submission waits for whose service answers on a connection of its own. Its part says whether anybody still
-- waits; the row stays for a while after that, so that what comes late is known. UIDs are here as codes under the deployment's key.
create table awaited (
  id         bigint      generated always as identity primary key,   -- the ticket
  task_id    bigint      not null,
  at         timestamptz not null default clock_timestamp(),         -- of the last try
  ready_at   timestamptz,                                            -- when its answer is complete by what came so far; null: not yet
  quiet      bigint      not null default 0,                         -- microseconds without another answer that complete it; 0: never
  most       int         not null default 0,                         -- answers that complete it; 0: never
  ordinal    int         not null,
  leg        smallint    not null,
  stage      smallint    not null,
  processor  smallint    not null,
  generation smallint    not null,
  try        smallint    not null,
  taken      smallint,                                               -- the try that took the answer
  called     text        not null,                                   -- AE titles: ours, and the service's; empty: any
  calling    text        not null default '',
  class      text        not null default '',                        -- of what is awaited; empty: any
  modality   text        not null default '',
  sent       bytea       not null                                    -- the codes of the instances that were sent, 16 bytes each, in order
);
create unique index awaited_part on awaited (task_id, leg, stage, processor, ordinal, generation);
create index awaited_at on awaited (at);

-- The studies of each of them.
create table awaited_study (
  study   bytea  not null,
  awaited bigint not null references awaited (id) on delete cascade,
  primary key (study, awaited)
);
create index awaited_study_of on awaited_study (awaited);

-- What came.
create table inbox (
  id       bigint      generated always as identity primary key,
  awaited  bigint      not null references awaited (id) on delete cascade,
  at       timestamptz not null default clock_timestamp(),
  size     bigint      not null,
  verdict  smallint    not null check (verdict between 0 and 2),     -- counts, late, replaced by another version of the same instance
  used     smallint,                                                 -- the try that took it
  class    text        not null,
  instance bytea       not null,
  sha      bytea       not null,
  location text,                                                     -- where in the blob store the bytes lie, if not in body
  body     bytea
);
alter table inbox alter body set storage external;
create unique index inbox_once on inbox (awaited, instance, sha);
create index inbox_blob on inbox (location) where location like 'sha/%';

create or replace view blob_use as
  select location from item     where location like 'sha/%'
  union all
  select location from arrival  where location like 'sha/%'
  union all
  select location from callback where location like 'sha/%'
  union all
  select location from inbox    where location like 'sha/%';

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert, update, delete on awaited, awaited_study, inbox to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select (id, task_id, at, ready_at, quiet, most, ordinal, leg, stage, processor, generation, try, taken, called, calling, class, modality) on awaited to gantry_auditor;
    grant select (id, awaited, at, size, verdict, used, class, instance, sha) on inbox to gantry_auditor;
  end if;
end $$;
-- +goose StatementEnd
