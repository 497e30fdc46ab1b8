-- +goose Up
set lock_timeout = '5s';

-- What an operator set in place of what is declared; it outlives declarations. set_units -1 and set_rate 0
-- mean no limit. now_… are the limits that hold: 0 units while somebody has paused the target or the pipeline.
alter table limiter
  add column set_units      int check (set_units >= -1),
  add column set_rate       float8 check (set_rate >= 0),
  add column set_burst      float8 check (set_burst >= 1),
  add column set_by         text,
  add column set_at         timestamptz,
  add column paused_at      timestamptz,
  add column breaker_after  int not null default 0 check (breaker_after >= 0),  -- failures in a row; 0: no breaker
  add column breaker_open   interval not null default '10 s',                   -- from its opening to the first probe
  add column breaker_worker bigint,                                             -- whose probe is out
  add column adaptive       boolean not null default false;
alter table limiter
  add column now_units int generated always as
    (case when paused_by is not null then 0 when set_units is not null then nullif(set_units, -1) else max_units end) stored,
  add column now_rate float8 generated always as
    (case when set_rate is not null then nullif(set_rate, 0) else rate end) stored,
  add column now_burst float8 generated always as (coalesce(set_burst, burst)) stored;

-- Tries of a part that its target answered with a request to come back later: they are no failures of the part.
alter table part add column asked smallint not null default 0;
