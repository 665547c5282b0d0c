-- migrate:up

-- A lineage is judged again, and a source of it ended, in a few statements over all it concerns: however wide and deep
-- it is, every memory is held in the order of its id and judged once.

-- As before, but what both say alike is not looked into; and nothing where one says nothing at all.
create or replace function memcube.strictest(a jsonb, b jsonb) returns jsonb
language sql immutable strict parallel safe set search_path = '' as $$
  select a || pg_catalog.jsonb_build_object(
    'read_roles', case when a -> 'read_roles' = b -> 'read_roles' then a -> 'read_roles'
                       else memcube.in_both(a -> 'read_roles', b -> 'read_roles') end,
    'write_roles', case when a -> 'write_roles' = b -> 'write_roles' then a -> 'write_roles'
                        else memcube.in_both(a -> 'write_roles', b -> 'write_roles') end,
    'share_roles', case when a -> 'share_roles' = b -> 'share_roles' then a -> 'share_roles'
                        else memcube.in_both(a -> 'share_roles', b -> 'share_roles') end,
    'principals', pg_catalog.jsonb_build_object(
      'allow', case when a #> '{principals,allow}' = b #> '{principals,allow}' then a #> '{principals,allow}'
                    else memcube.in_both(a #> '{principals,allow}', b #> '{principals,allow}') end,
      'deny', case when a #> '{principals,deny}' = b #> '{principals,deny}' then a #> '{principals,deny}'
                   else memcube.in_either(a #> '{principals,deny}', b #> '{principals,deny}') end),
    'visibility', case when (a ->> 'visibility' = 'public') and (b ->> 'visibility' = 'public') then 'public'
                       when a ->> 'visibility' in ('project', 'public')
                            and b ->> 'visibility' in ('project', 'public') then 'project' else 'private' end,
    'shareable', (a ->> 'shareable')::boolean and (b ->> 'shareable')::boolean,
    'license', case when a -> 'license' = b -> 'license' then a -> 'license' end,
    'on_expire', case when 'purge' in (a ->> 'on_expire', b ->> 'on_expire') then 'purge' else 'archive' end,
    'legal_hold', (a ->> 'legal_hold')::boolean or (b ->> 'legal_hold')::boolean,
    'sensitivity', case when a ->> 'sensitivity' = 'public' and b ->> 'sensitivity' = 'public' then 'public'
                        when a ->> 'sensitivity' in ('internal', 'public')
                             and b ->> 'sensitivity' in ('internal', 'public') then 'internal' else 'confidential' end,
    'pii_tagged', (a ->> 'pii_tagged')::boolean or (b ->> 'pii_tagged')::boolean,
    'pii_kinds', case when a -> 'pii_kinds' = b -> 'pii_kinds' then a -> 'pii_kinds'
                      else memcube.in_either(a -> 'pii_kinds', b -> 'pii_kinds') end,
    'audit_reads', (a ->> 'audit_reads')::boolean or (b ->> 'audit_reads')::boolean)
$$;

-- What several demand together.
create function memcube.strictest_of(p_all jsonb[]) returns jsonb
language plpgsql immutable parallel safe set search_path = '' as $$
declare
  strictest jsonb := p_all[1];
begin
  for i in 2 .. pg_catalog.cardinality(p_all) loop
    strictest := memcube.strictest(strictest, p_all[i]);
  end loop;
  return strictest;
end $$;
revoke execute on function memcube.strictest_of(jsonb[]) from public;
grant execute on function memcube.strictest_of(jsonb[]) to memcube_governor;

-- Whoever changes a lineage (ends a part of it, or what is demanded of it) is alone in those of its project until its
-- transaction ends; who only adds to one is not. Before any memory is held: so nobody waits for each other.
create function memcube.enter_lineage(p_alone boolean) returns void
language plpgsql set search_path = '' as $$
begin
  if p_alone then
    perform pg_catalog.pg_advisory_xact_lock(4712, pg_catalog.hashtext(pg_catalog.current_setting('app.project_id')));
  else
    perform pg_catalog.pg_advisory_xact_lock_shared(4712, pg_catalog.hashtext(pg_catalog.current_setting('app.project_id')));
  end if;
end $$;

-- Before memories are ended, or governed otherwise: they and what was derived from them are held, in the order in which
-- everybody holds memories.
create function memcube.hold_lineage(p_ids uuid[]) returns void
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
begin
  perform memcube.enter_lineage(true);
  perform from memcube.memories m
    where m.project_id = project
      and m.id = any (array(select u.id from pg_catalog.unnest(p_ids) u (id)
                            union
                            select l.child_id from memcube.memory_parents l
                             where l.project_id = project and l.parent_id = any (p_ids)))
    order by m.id for update;
end $$;

grant create on schema memcube to memcube_governor;
revoke execute on function memcube.enter_lineage(boolean), memcube.hold_lineage(uuid[]) from public;
grant execute on function memcube.enter_lineage(boolean) to memcube_governor;
grant execute on function memcube.hold_lineage(uuid[]) to memcube_user, memcube_worker;
alter function memcube.hold_lineage(uuid[]) owner to memcube_governor;
set local role memcube_governor;

-- As before, and nobody changes a lineage meanwhile.
create or replace function memcube.hold_sources(p_ids uuid[]) returns void
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
begin
  perform memcube.enter_lineage(false);
  perform from memcube.memories m
    where m.project_id = pg_catalog.current_setting('app.project_id', true) and m.id = any (p_ids) order by m.id for share;
end $$;

-- As before, but what was derived is judged level by level, each memory once: after all of its sources, and only where
-- one of them has changed. `app.judging` says that this is being done, to the same trigger on what is judged.
create or replace function memcube.on_governance_changed() returns trigger
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project constant text := new.project_id;
  project_before text := coalesce(pg_catalog.current_setting('app.project_id', true), '');
  derived uuid[];
  due uuid[];
  level uuid[];
  changed uuid[];
  moved uuid[];
begin
  if pg_catalog.current_setting('app.judging', true) = 'on' then
    return null;
  end if;
  perform pg_catalog.set_config('app.project_id', project, true);
  if tg_op = 'INSERT' then
    insert into memcube.memory_parents (project_id, parent_id, child_id)
    select project, p, new.id from pg_catalog.unnest(new.parents) p on conflict do nothing;
  else
    if new.audience <> old.audience then
      update memcube.memory_text set audience = new.audience where project_id = project and memory_id = new.id;
      update memcube.memory_vectors set audience = new.audience where project_id = project and memory_id = new.id;
    end if;
    due := array(select l.child_id from memcube.memory_parents l where l.project_id = project and l.parent_id = new.id);
    if due <> '{}' then
      perform memcube.enter_lineage(true);
      perform pg_catalog.set_config('app.judging', 'on', true);
      derived := array(
        with recursive derived (id) as (
          select u.id from pg_catalog.unnest(due) u (id)
          union
          select l.child_id from derived d join memcube.memory_parents l on l.project_id = project and l.parent_id = d.id
        )
        select d.id from derived d);
      perform from memcube.memories m
        where m.project_id = project and m.id = any (derived) order by m.id for no key update;
      while due <> '{}' loop
        level := array(select d.id
                         from (select m.id, m.depth, min(m.depth) over () as least
                                 from memcube.memories m where m.project_id = project and m.id = any (due)) d
                        where d.depth = d.least);
        exit when level = '{}';
        with judged as (
          update memcube.memories m set governance_own = m.governance_own
           where m.project_id = project and m.id = any (level)
          returning with (old as was, new as is_now) m.id, is_now.audience <> was.audience as moved,
                    (is_now.governance, is_now.let_in, is_now.audience, is_now.expires_at)
                    is distinct from (was.governance, was.let_in, was.audience, was.expires_at) as changed
        )
        select coalesce(pg_catalog.array_agg(j.id) filter (where j.changed), '{}'),
               coalesce(pg_catalog.array_agg(j.id) filter (where j.moved), '{}')
          into changed, moved from judged j;
        if moved <> '{}' then
          update memcube.memory_text t set audience = m.audience from memcube.memories m
           where m.project_id = project and m.id = any (moved) and t.project_id = project and t.memory_id = m.id;
          update memcube.memory_vectors v set audience = m.audience from memcube.memories m
           where m.project_id = project and m.id = any (moved) and v.project_id = project and v.memory_id = m.id;
        end if;
        due := array(select u.id from pg_catalog.unnest(due) u (id)
                     except
                     select u.id from pg_catalog.unnest(level) u (id)
                     union
                     select l.child_id from memcube.memory_parents l
                      where l.project_id = project and l.parent_id = any (changed));
      end loop;
      perform pg_catalog.set_config('app.judging', '', true);
    end if;
  end if;
  perform pg_catalog.set_config('app.project_id', project_before, true);
  return null;
end $$;

-- As before, but what was derived from what goes, and stays, changes in one statement. It is not judged again: that it is
-- bound by what it inherited changes nothing about what applies to it.
create or replace function memcube.on_memories_purged() returns trigger
language plpgsql security definer set search_path = '' set plan_cache_mode = force_generic_plan as $$
declare
  project_before text := coalesce(pg_catalog.current_setting('app.project_id', true), '');
  project text;
  gone uuid[];
begin
  for project, gone in
    select b.project_id, pg_catalog.array_agg(b.id order by b.id) from before_rows b group by b.project_id order by b.project_id
  loop
    perform pg_catalog.set_config('app.project_id', project, true);
    if exists (select from memcube.memory_parents l where l.project_id = project and l.parent_id = any (gone)) then
      -- Derived from the nearest that stay of what it was derived from by way of what goes,
      with recursive leaving as materialized (
        select b.id, b.parents from before_rows b where b.project_id = project
      ), heritage (lost, source) as (
        select v.id, p.id from leaving v cross join lateral pg_catalog.unnest(v.parents) p (id)
         where exists (select from memcube.memory_parents l
                        where l.project_id = project and l.parent_id = v.id
                          and not exists (select from leaving x where x.id = l.child_id))
        union
        select h.lost, p.id
          from heritage h join leaving v on v.id = h.source cross join lateral pg_catalog.unnest(v.parents) p (id)
      )
      insert into memcube.memory_parents (project_id, parent_id, child_id)
      select distinct project, h.source, l.child_id
        from heritage h join memcube.memory_parents l on l.project_id = project and l.parent_id = h.lost
       where not exists (select from leaving x where x.id = h.source or x.id = l.child_id)
      on conflict do nothing;
      -- and bound by what that demanded.
      with leaving as materialized (
        select b.id, b.let_in, b.audience, b.expires_at, b.governance || pg_catalog.jsonb_build_object(
                 'principals', pg_catalog.jsonb_build_object('allow', b.let_in, 'deny', b.denied), 'expires_at', null)
                 as demand
          from before_rows b where b.project_id = project
      )
      update memcube.memories m
         set parents = array(select p.id from pg_catalog.unnest(m.parents) with ordinality p (id, n)
                              where not p.id = any (b.lost) order by p.n)
                       || array(select l.parent_id from memcube.memory_parents l
                                 where l.child_id = m.id and l.project_id = project
                                   and not l.parent_id = any (m.parents) order by l.parent_id),
             bound = coalesce(memcube.strictest(m.bound, b.demand), b.demand) || pg_catalog.jsonb_build_object(
                       'expires_at', least((m.bound ->> 'expires_at')::timestamptz, b.expires_at))
        from (select d.id, pg_catalog.array_agg(d.lost) as lost, min(d.expires_at) as expires_at,
                     memcube.strictest_of(pg_catalog.array_agg(distinct d.demand)) as demand
                from (select l.child_id as id, v.id as lost, v.expires_at,
                             case when v.audience > 1 then v.demand
                                  else pg_catalog.jsonb_set(v.demand, '{principals,allow}',
                                         pg_catalog.to_jsonb(v.let_in || c.created_by)) end as demand
                        from leaving v
                        join memcube.memory_parents l on l.project_id = project and l.parent_id = v.id
                       cross join lateral (select x.created_by from memcube.memories x
                                            where x.project_id = project and x.id = l.child_id limit 1) c
                       where not exists (select from leaving x where x.id = l.child_id)) d
               group by d.id) b
       where m.project_id = project and m.id = b.id;
    end if;
    delete from memcube.memory_parents l where l.project_id = project and l.parent_id = any (gone);
    delete from memcube.memory_parents l where l.project_id = project and l.child_id = any (gone);
    delete from memcube.memory_payloads x where x.project_id = project and x.memory_id = any (gone);
    delete from memcube.past_payloads x where x.project_id = project and x.memory_id = any (gone);
    delete from memcube.memory_versions x where x.project_id = project and x.memory_id = any (gone);
    delete from memcube.memory_text x where x.project_id = project and x.memory_id = any (gone);
    delete from memcube.memory_vectors x where x.project_id = project and x.memory_id = any (gone);
    delete from memcube.work_queue x where x.project_id = project and x.kind = 'embedding' and x.item_id = any (gone);
    update memcube.idempotency_keys k set status = 404, body = '' where k.about = any (gone) and k.project_id = project;
    update memcube.changes c
       set body = c.body || '{"label": "(purged)", "tags": []}'
     where c.memory_id = any (gone) and c.project_id = project and c.body ? 'label';
    update memcube.insights i
       set insight = '(purged)', label = null, tags = '{}', evidence_refs = '{}', metadata = '{}'
     where i.project_id = project
       and (i.memory_id = any (gone)
            or i.decision is distinct from 'near_duplicate'   -- which has gone over to the memory that stays
               and i.id = any (array(select pg_catalog.substr(b.origin, 9)::uuid from before_rows b
                                      where b.project_id = project and b.origin ~ '^insight:[0-9a-f-]{36}$')));
  end loop;
  perform pg_catalog.set_config('app.project_id', project_before, true);
  return null;
end $$;

-- Rows before and after are joined by what a first statement made Postgres think of their number, which is one: for five
-- thousand, every row would be compared with every other.
alter function memcube.on_texts_changed() set enable_nestloop = off;
set local role memcube_feed;
alter function memcube.on_memories_written() set enable_nestloop = off;
reset role;
revoke create on schema memcube from memcube_governor;

-- migrate:down
-- Forward only: a mistake is mended by the next migration.
