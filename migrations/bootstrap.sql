-- Roles belong to the whole cluster and may exist already, made by another database's bootstrap
-- at this very moment. Without CREATEROLE one role does everything.
do $$
declare r text;
begin
  foreach r in array array['gantry_owner', 'gantry_app', 'gantry_sealer', 'gantry_auditor'] loop
    if not exists (select from pg_roles where rolname = r) then
      begin
        execute format('create role %I nologin', r);
      exception
        when duplicate_object or unique_violation then null;
        when insufficient_privilege then exit;
      end;
    end if;
    begin
      if not pg_has_role(current_user, r, 'member') then
        execute format('grant %I to %I', r, current_user);
      end if;
    exception when insufficient_privilege then null;
    end;
  end loop;
end $$;
do $$
begin
  if not exists (select from pg_namespace where nspname = 'gantry') then
    create schema gantry;
  end if;
end $$;
