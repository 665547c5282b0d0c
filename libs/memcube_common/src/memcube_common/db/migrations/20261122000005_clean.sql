-- migrate:up

-- A connection just borrowed must carry nothing of its last borrower: neither a role nor any of the settings that
-- policies read. The sentence names what was left, never its value.
create or replace function memcube.assert_clean() returns void
language plpgsql set search_path = '' as $$
begin
  if current_user <> session_user or pg_catalog.concat(
       pg_catalog.current_setting('app.project_id', true), pg_catalog.current_setting('app.principal', true),
       pg_catalog.current_setting('app.role', true), pg_catalog.current_setting('app.lookup', true),
       pg_catalog.current_setting('app.account', true), pg_catalog.current_setting('app.source', true)) <> '' then
    raise exception 'a connection came back dirty: role %, settings of app.* %', current_user,
      pg_catalog.concat_ws(', ',
        case when pg_catalog.current_setting('app.project_id', true) <> '' then 'project_id' end,
        case when pg_catalog.current_setting('app.principal', true) <> '' then 'principal' end,
        case when pg_catalog.current_setting('app.role', true) <> '' then 'role' end,
        case when pg_catalog.current_setting('app.lookup', true) <> '' then 'lookup' end,
        case when pg_catalog.current_setting('app.account', true) <> '' then 'account' end,
        case when pg_catalog.current_setting('app.source', true) <> '' then 'source' end);
  end if;
end $$;


-- migrate:down
-- Forward only: a mistake is mended by the next migration.
