-- +goose Up
set lock_timeout = '5s';

-- Requests that a sink's server confirm what was delivered to it (storage commitment of DICOM). The row is there before the request
-- leaves, since the answer may come to any process at any time after.
create table confirmation (
  id        text     primary key,        -- the transaction's UID, made of what follows
  task_id   bigint   not null,
  leg       smallint not null,
  delivery  smallint not null,
  sink      smallint not null,           -- its place in the pipeline
  try       smallint not null,
  limiter   int      not null,           -- of the sink's target
  instances int      not null,           -- how many it is about
  names     bytea    not null,           -- a digest of these
  asked_at  timestamptz not null default clock_timestamp(),
  taken     boolean  not null default false,   -- the server took the request
  over      boolean  not null default false    -- nobody waits for its answer any more
) with (fillfactor = 70);
create index confirmation_task on confirmation (task_id);

-- The first answer to each. Append-only. An instance that is not kept is named by the SHA-256 of its UID.
create table confirmation_answer (
  id      text     primary key,
  at      timestamptz not null default clock_timestamp(),
  xid     xid8     not null default pg_current_xact_id(),
  kept    int      not null,
  names   bytea    not null,               -- a digest of those that are kept
  failed  bytea[]  not null default '{}',
  reasons int[]    not null default '{}'   -- of those, in the same order (PS3.3 section C.14)
);
create trigger append_only before update or delete on confirmation_answer for each row execute function refuse_change();
create trigger append_only_whole before truncate on confirmation_answer for each statement execute function refuse_change();

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant select, insert, update on confirmation to gantry_app;
    grant select, insert on confirmation_answer to gantry_app;
  end if;
  if exists (select from pg_roles where rolname = 'gantry_auditor') then
    grant select on confirmation, confirmation_answer to gantry_auditor;
  end if;
end $$;
-- +goose StatementEnd
