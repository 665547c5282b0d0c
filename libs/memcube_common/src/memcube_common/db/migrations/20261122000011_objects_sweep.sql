-- migrate:up

-- What must leave the object store, of every project, oldest first: what nothing names any more, and what has been
-- arriving for so long that nobody brings it. Each is handed out once in a round, and comes again in the next where it
-- could not be removed. Handing out ends the arrival: a memory that still comes for it is refused.
create function memcube.claim_objects(p_before timestamptz, p_arriving interval, p_limit int)
returns table (project_id text, key text)
language plpgsql security definer rows 100 set search_path = '' as $$
begin
  return query
  update memcube.objects o
     set state = 'leaving', since = pg_catalog.clock_timestamp()
    from (select x.project_id, x.key from memcube.objects x
           where x.state <> 'kept' and x.since < p_before
             and (x.state = 'leaving' or x.since < p_before - p_arriving)
           order by x.since limit p_limit for update skip locked) due
   where o.project_id = due.project_id and o.key = due.key
  returning o.project_id, o.key;
end $$;

-- They are gone from the store.
create function memcube.forget_objects(p_projects text[], p_keys text[]) returns bigint
language plpgsql security definer set search_path = '' as $$
declare
  gone bigint;
begin
  delete from memcube.objects o
   using unnest(p_projects, p_keys) as g (project, key)
   where o.project_id = g.project and o.key = g.key and o.state = 'leaving';
  get diagnostics gone = row_count;
  return gone;
end $$;

revoke execute on function memcube.claim_objects(timestamptz, interval, int),
  memcube.forget_objects(text[], text[]) from public;
grant execute on function memcube.claim_objects(timestamptz, interval, int),
  memcube.forget_objects(text[], text[]) to memcube_worker;
grant create on schema memcube to memcube_dispatch;
alter function memcube.claim_objects(timestamptz, interval, int) owner to memcube_dispatch;
alter function memcube.forget_objects(text[], text[]) owner to memcube_dispatch;
revoke create on schema memcube from memcube_dispatch;

grant select, update (state, since), delete on memcube.objects to memcube_dispatch;
create policy dispatch_select on memcube.objects for select to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:lifecycle');
create policy dispatch_update on memcube.objects for update to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:lifecycle')
  with check (current_setting('app.principal', true) = 'room:lifecycle');
create policy dispatch_delete on memcube.objects for delete to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:lifecycle' and state = 'leaving');


-- migrate:down
-- Forward only: a mistake is mended by the next migration.
