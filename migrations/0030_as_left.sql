-- +goose Up
set lock_timeout = '5s';

-- Ends a transaction that was to add to collections as they were left, and finds them otherwise.
-- +goose StatementBegin
create function as_left(yes boolean) returns void language plpgsql as $$
begin
  if not yes then
    raise exception 'a collection is not as it was left' using errcode = 'GA001';
  end if;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
do $$
begin
  if exists (select from pg_roles where rolname = 'gantry_app') then
    grant execute on function as_left(boolean) to gantry_app;
  end if;
end $$;
-- +goose StatementEnd
