-- +goose Up
set lock_timeout = '5s';

-- Answers that peers of sources asked for and are to get later: reports of storage commitment (PS3.4 annex J). The row is there before the
-- request is answered, and whatever process serves the source pays.
create table debt (
  id       bigint      generated always as identity primary key,
  source   text        not null,
  peer     text        not null,                                     -- the AE title that it called with
  name     bytea       not null,                                     -- of its request, as a code under the deployment's key
  digest   bytea       not null,                                     -- SHA-256 of what it asked
  request  bytea,                                                    -- what it asked; null once it is answered or given up
  at       timestamptz not null default clock_timestamp(),           -- when it was asked last
  due      timestamptz,                                              -- until when somebody holds it, or it waits; null: it is over
  turn     int         not null default 0,
  tries    int         not null default 0,
  ended_at timestamptz,
  given    text                                                      -- the reason for which it was given up
) with (fillfactor = 70);
create unique index debt_request on debt (source, peer, name);
create index debt_due on debt (source, due) where due is not null;
create index debt_ended on debt (ended_at) where ended_at is not null;

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert, update, delete on debt to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select (id, source, peer, digest, at, due, turn, tries, ended_at, given) on debt to gantry_auditor;
  end if;
end $$;
-- +goose StatementEnd
