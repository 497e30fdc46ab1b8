-- +goose Up
set lock_timeout = '5s';

-- What is on record of one source of one pipeline beside its arrivals. The process that watches it writes the row anew
-- every few seconds in which something changed.
create table source_state (
  source        text        primary key,             -- pipeline/source, as in arrival
  kind          text        not null default '',
  at            timestamptz not null default now(),  -- of the last report
  progress      bytea,                               -- how far it was taken up; holds names, sealed with the deployment key
  backlog       boolean     not null default false,  -- objects that were there before are being taken up
  passed        bigint      not null default 0,      -- of these so far
  lag_us        bigint,                              -- from an object's time to its arrival's commit: of the last,
  lag_p50_us    bigint,                              -- and of those of the last minutes
  lag_max_us    bigint,
  sweeps        bigint      not null default 0,
  swept_at      timestamptz,                         -- beginning of the last listing of everything
  sweep_us      bigint      not null default 0,
  sweep_objects bigint      not null default 0,
  sweep_missed  bigint      not null default 0,      -- found by it, although nothing had told of them
  missed        bigint      not null default 0,      -- by all
  error_code    text,
  error_kind    smallint,
  error_at      timestamptz
) with (fillfactor = 50);

create table source_channel (          -- what tells of a source's objects
  source   text        not null,
  channel  text        not null,       -- poll, folder, upload, sqs, webhook
  heard_at timestamptz,                -- the last time that it told of an object
  told     bigint      not null default 0,
  primary key (source, channel)
) with (fillfactor = 50);

-- Arrivals that no task was made from are few, and counted often.
create index arrival_turned_away on arrival (source, status) where status <> 0;

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert, update, delete on source_state, source_channel to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select on source_state, source_channel to gantry_auditor;
  end if;
end $$;
-- +goose StatementEnd
