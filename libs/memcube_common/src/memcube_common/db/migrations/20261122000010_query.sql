-- migrate:up

-- What a query asks of a memory besides words and meaning; what is null is not asked. One value, so that it goes whole
-- through every statement and is folded into the plan.
create type memcube.filters as (
  lifecycles     text[],
  tags_all       text[],
  tags_any       text[],
  tags_none      text[],
  types          text[],
  priorities     text[],
  trusts         text[],
  label_is       text,
  label_prefix   text,
  label_contains text,
  metadata       jsonb,
  makers         text[],
  created_after  timestamptz,
  created_before timestamptz,
  updated_after  timestamptz,
  updated_before timestamptz,
  as_of          timestamptz,
  ids            uuid[]
);

-- Whether a memory is one of those asked for. Bound when it is made, so that it needs no search path; and plain enough
-- that Postgres writes it into the statement that calls it, as if it stood there. What is past its time is in no answer
-- until it is marked: it is neither active nor yet expired.
create function memcube.fits(m memcube.memories, f memcube.filters) returns boolean
language sql stable parallel safe
return (m).lifecycle = any ((f).lifecycles)
   and ((m).expires_at is null or (m).expires_at > now() or (m).lifecycle in ('ARCHIVED', 'EXPIRED'))
   and ((f).as_of is null or (m).created_at <= (f).as_of)
   and ((f).created_after is null or (m).created_at > (f).created_after)
   and ((f).created_before is null or (m).created_at < (f).created_before)
   and ((f).updated_after is null or (m).updated_at > (f).updated_after)
   and ((f).updated_before is null or (m).updated_at < (f).updated_before)
   and ((f).types is null or (m).type = any ((f).types))
   and ((f).priorities is null or (m).priority = any ((f).priorities))
   and ((f).trusts is null or (m).trust = any ((f).trusts))
   and ((f).makers is null or (m).created_by = any ((f).makers))
   and ((f).ids is null or (m).id = any ((f).ids))
   and ((f).label_is is null or (m).label = (f).label_is)
   and ((f).label_prefix is null or starts_with((m).label, (f).label_prefix))
   and ((f).label_contains is null or strpos(lower((m).label), lower((f).label_contains)) > 0)
   and ((f).tags_all is null or (m).tags @> (f).tags_all)
   and ((f).tags_any is null or (m).tags && (f).tags_any)
   and ((f).tags_none is null or not (m).tags && (f).tags_none)
   and ((f).metadata is null or (m).metadata @> (f).metadata);

-- The orders of a listing. Partial like memories_recent, and for the same reason; those of what is archived or expired
-- are apart, so that an insert pays for none of them. Labels are ordered by their characters' numbers everywhere.
create index memories_touched on memcube.memories (project_id, updated_at desc, id desc)
  where lifecycle not in ('ARCHIVED', 'EXPIRED');
create index memories_labels on memcube.memories (project_id, label collate "C", id)
  where lifecycle not in ('ARCHIVED', 'EXPIRED');
create index memories_gone_recent on memcube.memories (project_id, created_at desc, id desc)
  where lifecycle in ('ARCHIVED', 'EXPIRED');
create index memories_gone_touched on memcube.memories (project_id, updated_at desc, id desc)
  where lifecycle in ('ARCHIVED', 'EXPIRED');
create index memories_gone_labels on memcube.memories (project_id, label collate "C", id)
  where lifecycle in ('ARCHIVED', 'EXPIRED');

-- Walk the project's memories in an order, from behind a place on, until p_limit fit or p_budget were looked at. Tells
-- those that fit, and the last one that was looked at where the budget ended: there one can go on. Runs with the caller's rights and
-- under its policies. Always along an index: the planner, who does not know how soon enough are found, would else read
-- and sort the whole project for some filters.
create function memcube.walk(
  p_by text, p_down boolean, p_filters memcube.filters, p_label_until text,
  p_after_at timestamptz, p_after_label text, p_after_id uuid, p_limit int, p_budget int)
returns table (memory_id uuid, at timestamptz, label text, fit boolean, looked bigint)
language plpgsql stable set search_path = '' set enable_sort = off set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  -- Names and signs only, each from a list; every value goes as a parameter.
  clock constant text := case p_by when 'updated_at' then 'updated_at' else 'created_at' end;
  key constant text := case p_by when 'label' then 'label collate "C"' else clock end;
  way constant text := case when p_down then 'desc' else 'asc' end;
  from_label constant text := coalesce(p_filters.label_is, p_filters.label_prefix);
  after constant timestamptz := case p_by when 'updated_at' then p_filters.updated_after else p_filters.created_after end;
  before constant timestamptz := case p_by when 'updated_at' then p_filters.updated_before
                                           else least(p_filters.created_before, p_filters.as_of) end;
  bounds constant text :=
    case when p_after_id is null then '' else pg_catalog.format(' and (m.%s, m.id) %s (%s, $4)', key,
      case when p_down then '<' else '>' end, case p_by when 'label' then '$5' else '$6' end) end
    || case when p_by = 'label' and from_label is not null then ' and m.label collate "C" >= $7' else '' end
    || case when p_by = 'label' and p_label_until is not null then ' and m.label collate "C" < $8' else '' end
    || case when p_by <> 'label' and after is not null then pg_catalog.format(' and m.%s > $9', clock) else '' end
    || case when p_by <> 'label' and before is not null then pg_catalog.format(' and m.%s <= $10', clock) else '' end;
  leaf constant text := pg_catalog.format(
    '(select m.id, m.%1$s as at, m.label, memcube.fits(m, $2) as fit from memcube.memories m'
    ' where m.project_id = $1 and m.lifecycle %%s (''ARCHIVED'', ''EXPIRED'')%2$s order by m.%3$s %4$s, m.id %4$s)',
    clock, bounds, key, way);
  live constant text := pg_catalog.format(leaf, 'not in');
  gone constant text := pg_catalog.format(leaf, 'in');
begin
  return query execute pg_catalog.format(
    'select w.id, w.at, w.label, w.fit, w.nth from (select u.*, pg_catalog.row_number() over () as nth'
    ' from (select * from %s l order by l.%s %s, l.id %3$s limit $11) u) w where w.fit or w.nth = $11 limit $3',
    case when not p_filters.lifecycles && '{ARCHIVED,EXPIRED}' then live
         when p_filters.lifecycles <@ '{ARCHIVED,EXPIRED}' then gone
         else '(' || live || ' union all ' || gone || ')' end,
    case p_by when 'label' then key else 'at' end, way)
    using pg_catalog.current_setting('app.project_id'), p_filters, p_limit, p_after_id, p_after_label, p_after_at,
      from_label, p_label_until, after, before, p_budget;
end $$;

-- Who asks with a vector of its own is told which lengths there are.
grant select on memcube.embedding_models to memcube_anon;
create policy public_select on memcube.embedding_models for select to memcube_anon
  using (current_setting('app.project_id', true) <> '');

-- Memories that carry all of some tags and any of others, at most p_limit of them; as before, what the reader may not
-- see is left out first. By an index always: a tag that most carry would else have the partition read, others included.
grant create on schema memcube to memcube_search;
set local role memcube_search;
drop function memcube.tag_candidates(text[], int);
create function memcube.tag_candidates(p_all text[], p_any text[], p_limit int)
returns table (memory_id uuid)
language plpgsql stable security definer
set search_path = '' set plan_cache_mode = force_custom_plan set enable_seqscan = off as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  reach smallint := memcube.reach();
begin
  return query
  select t.memory_id from memcube.memory_text t
   where t.project_id = project and (p_all is null or t.tags @> p_all) and (p_any is null or t.tags && p_any)
     and (t.audience <= reach or exists (select from memcube.memories m
                                          where m.project_id = project and m.id = t.memory_id offset 0))
   limit p_limit;
end $$;
revoke execute on function memcube.tag_candidates(text[], text[], int) from public;
grant execute on function memcube.tag_candidates(text[], text[], int) to memcube_user, memcube_anon;
reset role;
revoke create on schema memcube from memcube_search;

revoke execute on function memcube.fits(memcube.memories, memcube.filters) from public;
revoke execute on function
  memcube.walk(text, boolean, memcube.filters, text, timestamptz, text, uuid, int, int) from public;
revoke usage on type memcube.filters from public;
grant usage on type memcube.filters to memcube_user, memcube_anon;
grant execute on function memcube.fits(memcube.memories, memcube.filters) to memcube_user, memcube_anon;
grant execute on function
  memcube.walk(text, boolean, memcube.filters, text, timestamptz, text, uuid, int, int) to memcube_user, memcube_anon;


-- migrate:down
-- Forward only: a mistake is mended by the next migration.
