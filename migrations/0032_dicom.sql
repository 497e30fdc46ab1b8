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

-- Of some objects only one version is taken: no other may be kept when one is written, nor come by another transaction meanwhile. Locks are taken
-- in one order by all. By arrival: sources, macs, versions.
-- +goose StatementBegin
create function take_once(sources text[], macs bytea[], versions text[]) returns void language plpgsql as $$
declare
  h int;
begin
  for h in select distinct hashtext(r.source || ' ' || encode(r.mac, 'hex')) from unnest(sources, macs) as r(source, mac) order by 1 loop
    perform pg_advisory_xact_lock(hashtext('gantry.once'), h);
  end loop;
  perform from unnest(sources, macs, versions) as r(source, mac, version)
    cross join lateral (select bool_or(a.version = r.version) as same, bool_or(a.version <> r.version) as other
      from arrival a where a.source = r.source and a.ref_mac = r.mac and a.location <> '' offset 0) k
    where k.other and not k.same;
  if found or exists (select from unnest(sources, macs, versions) as r(source, mac, version) group by r.source, r.mac having count(distinct r.version) > 1) then
    raise exception 'another version is kept' using errcode = 'unique_violation', constraint = 'arrival_once';
  end if;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert, update, delete on debt to gantry_app;
    grant execute on function take_once(text[], bytea[], text[]) to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select (id, source, peer, digest, at, due, turn, tries, ended_at, given) on debt to gantry_auditor;
  end if;
end $$;
-- +goose StatementEnd
