-- +goose Up
set lock_timeout = '5s';

-- TRUNCATE fires no trigger of rows.
create trigger append_only_whole before truncate on task_event      for each statement execute function refuse_change();
create trigger append_only_whole before truncate on call_intent     for each statement execute function refuse_change();
create trigger append_only_whole before truncate on call_outcome    for each statement execute function refuse_change();
create trigger append_only_whole before truncate on control_traffic for each statement execute function refuse_change();
