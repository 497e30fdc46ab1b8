-- +goose Up
set lock_timeout = '5s';

-- Requests that belong to no call of a task, such as listings of a bucket: one row a minute, process and
-- target for those that went through, one for each that failed (error_code is set). Append-only.
create table control_traffic (
  id         uuid        primary key,    -- version 7, made by the process
  at         timestamptz not null default clock_timestamp(),
  xid        xid8        not null default pg_current_xact_id(),
  worker     bigint      not null,
  from_at    timestamptz not null,
  to_at      timestamptz not null,
  req_size   bigint      not null,
  resp_size  bigint      not null,
  took_us    bigint      not null,
  limiter    int         not null,
  pipeline   int         not null,
  requests   int         not null check (requests > 0),
  failures   int         not null check (failures between 0 and requests),
  status     int         not null,
  boundary   smallint    not null,
  processor  smallint    not null,       -- its index at its boundary
  kind       smallint    not null,
  error_code text
);
create index control_traffic_at    on control_traffic using brin (at) with (pages_per_range = 32, autosummarize = on);
create index control_traffic_fault on control_traffic (limiter, at) where failures > 0;
create trigger append_only before update or delete on control_traffic for each row execute function refuse_change();

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert on control_traffic to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select on control_traffic to gantry_auditor, gantry_sealer;
  end if;
end $$;
-- +goose StatementEnd
