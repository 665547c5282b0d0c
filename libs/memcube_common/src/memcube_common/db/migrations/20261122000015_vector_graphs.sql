-- migrate:up

-- A project with many vectors gets a graph (HNSW) of its own: a partial index, which no other project pays for and
-- which holds no other project's vectors. It is built without stopping writers, which no function can do and which only
-- the owner of a table may: so the partitions that hold vectors, and nothing else, belong to memcube_builder, in a
-- schema where it may make indexes. It is on no search path, and nobody reads a partition but through its table.
grant usage, create on schema memcube_vectors to memcube_builder;
do $$
begin
  for i in 0..15 loop
    execute format('alter table memcube.memory_vectors_p%s set schema memcube_vectors', i);
    execute format('alter table memcube_vectors.memory_vectors_p%s owner to memcube_builder', i);
    execute format('revoke all on memcube_vectors.memory_vectors_p%s from memcube_builder', i);
  end loop;
end $$;

create table memcube.vector_graphs (
  project_id text not null references memcube.projects (id) on delete cascade,
  generation smallint not null,
  dimensions int not null,
  seconds    real not null,
  built_at   timestamptz not null default now(),
  primary key (project_id, generation)
);
comment on table memcube.vector_graphs is 'Graphs that answer. A row is written when its index is whole, and goes before the index goes.';
comment on column memcube.vector_graphs.seconds is 'How long it took to build.';

-- ── which graphs there should be ───────────────────────────────────────────────────────────────────

-- Every graph that stands or should: with more than p_most vectors one is wanted, and kept while more than p_least are
-- left. Counts stop behind the larger of the two. `building` is the statement that builds it; `name` that of its index.
create function memcube.graph_work(p_most int, p_least int)
returns table (project_id text, generation smallint, dimensions int, name text, building text, is_wanted boolean,
               stands boolean)
language plpgsql stable security definer rows 100 set search_path = '' set enable_seqscan = off
set plan_cache_mode = force_custom_plan as $$
begin
  return query
  select w.id, w.generation, w.dimensions, w.index,
         pg_catalog.format('create index concurrently %I on memcube_vectors.%I using hnsw'
                           ' ((embedding::public.halfvec(%s)) public.halfvec_cosine_ops)'
                           ' with (m = 24, ef_construction = 200) where project_id = %L and generation = %s::smallint',
                           w.index, w.partition, w.dimensions, w.id, w.generation),
         w.is_wanted, w.stands
    from (select p.id, e.generation, e.dimensions,
                 pg_catalog.format('graph_%s_%s', e.generation, pg_catalog.md5(p.id)) as index,
                 (select 'memory_vectors_p' || i from pg_catalog.generate_series(0, 15) i
                   where pg_catalog.satisfies_hash_partition('memcube.memory_vectors'::regclass, 16, i, p.id))
                   as partition,
                 c.many > case when g.project_id is null then p_most else p_least end as is_wanted,
                 g.project_id is not null as stands
            from memcube.projects p
           cross join memcube.embedding_models e
            left join memcube.vector_graphs g on g.project_id = p.id and g.generation = e.generation
           cross join lateral (select count(*) as many
                                 from (select from memcube.memory_vectors v
                                        where v.project_id = p.id and v.generation = e.generation
                                        limit greatest(p_most, p_least) + 1) v) c) w
   where w.is_wanted or w.stands
   order by w.id, w.generation;
end $$;
revoke execute on function memcube.graph_work(int, int) from public;
grant execute on function memcube.graph_work(int, int) to memcube_worker;
grant create on schema memcube to memcube_dispatch;
alter function memcube.graph_work(int, int) owner to memcube_dispatch;
revoke create on schema memcube from memcube_dispatch;

-- ── the nearest, by way of a graph where the project has one ───────────────────────────────────────

grant create on schema memcube to memcube_search;
set local role memcube_search;

-- About the p_looked nearest of a project that has a graph, in no strict order: a search asks for a hundred and more, so
-- that twice as many are kept in view (recall@10 0.999; with 100 in view 0.992, and for some questions 0.3). The
-- statement names project, generation and dimensions as the index does, or it would be no index of this statement.
-- Sorting is ruled out: a planner that knows little of the project would else compare all vectors.
create function memcube.graph_candidates(p_generation smallint, p_dimensions int, p_query public.halfvec, p_looked int)
returns table (memory_id uuid, audience smallint, distance float8)
language plpgsql stable rows 200 set search_path = '' set enable_sort = off as $$
begin
  -- Not by clauses of the function: a restore would need to know them before the library that owns them is loaded.
  perform pg_catalog.set_config('hnsw.ef_search', '200', true),
          pg_catalog.set_config('hnsw.iterative_scan', 'relaxed_order', true);
  return query execute pg_catalog.format(
    'select v.memory_id, v.audience, v.embedding::public.halfvec(%1$s) operator(public.<=>) $1::public.halfvec(%1$s)'
    '  from memcube.memory_vectors v where v.project_id = %2$L and v.generation = %3$s::smallint'
    ' order by v.embedding::public.halfvec(%1$s) operator(public.<=>) $1::public.halfvec(%1$s) limit %4$s',
    p_dimensions, pg_catalog.current_setting('app.project_id'), p_generation, p_looked) using p_query;
end $$;
revoke execute on function memcube.graph_candidates(smallint, int, public.halfvec, int) from public;

-- The memories nearest in meaning. p_rough 0 compares every vector. Below 0 the project's graph says which are near, if
-- it has one; of tags a graph knows nothing: few memories that carry them are compared each, many by codes. Without a
-- graph, and where it brought too few, the Hamming distance of one-bit codes out of the covering index, and the nearest
-- |p_rough| compared exactly. Hidden ones are left out of the nearest (of a graph's, more are looked at if too few
-- remain); only where too few remain of all that were looked at, every vector is compared and they are left out first,
-- which asks about every memory beyond the reader's class.
create or replace function memcube.vector_candidates(p_generation smallint, p_query public.halfvec, p_tags text[], p_limit int, p_rough int)
returns table (memory_id uuid, distance float8)
language plpgsql stable security definer rows 200 set search_path = '' set plan_cache_mode = force_custom_plan as $$
declare
  project text := pg_catalog.current_setting('app.project_id');
  reach smallint := memcube.reach();
  looked int := case when reach = 2 then p_limit else least(p_limit::bigint * 3, 2147483647) end;
  graph int;
  near record;
  met int := 0;
  shown int := 0;
  told uuid[] := '{}';
  far float8[];
begin
  if p_rough < 0 and p_limit <= 1000 then
    select g.dimensions into graph from memcube.vector_graphs g
     where g.project_id = project and g.generation = p_generation;
  end if;
  if graph is not null and p_tags <> '{}' then
    select array_agg(t.memory_id) into told
      from (select x.memory_id from memcube.memory_text x
             where x.project_id = project and x.tags @> p_tags limit 2001) t;
    if told is null or pg_catalog.cardinality(told) <= 2000 then
      return query
      select v.memory_id, v.embedding operator(public.<=>) p_query as d
        from pg_catalog.unnest(told) w (id)
       cross join lateral (select x.memory_id, x.embedding, x.audience from memcube.memory_vectors x
                            where x.project_id = project and x.generation = p_generation and x.memory_id = w.id
                            limit 1) v
       where v.audience <= reach or exists (select from memcube.memories m
                                             where m.project_id = project and m.id = v.memory_id offset 0)
       order by d, v.memory_id limit p_limit;
      return;
    end if;
    graph := null;
    told := '{}';
  end if;
  if graph is not null then
    foreach looked in array case when reach = 2 then array[p_limit]
                                 else array[p_limit + p_limit / 2, p_limit * 6] end loop
      select array_agg(n.memory_id), array_agg(n.distance) into told, far
        from (select c.memory_id, c.distance
                from memcube.graph_candidates(p_generation, graph, p_query, looked) c
               where c.audience <= reach or exists (select from memcube.memories m
                                                     where m.project_id = project and m.id = c.memory_id offset 0)
               order by c.distance, c.memory_id limit p_limit) n;
      if pg_catalog.cardinality(told) = p_limit then
        return query select u.id, u.d from unnest(told, far) as u (id, d);
        return;
      end if;
    end loop;
    told := '{}';
  end if;
  if p_rough = 0 then
    for near in
      select n.memory_id, n.d, n.audience <= reach
             or exists (select from memcube.memories m
                         where m.project_id = project and m.id = n.memory_id offset 0) as seen
        from (select v.memory_id, v.audience, v.embedding operator(public.<=>) p_query as d
                from memcube.memory_vectors v
               where v.project_id = project and v.generation = p_generation and (p_tags = '{}' or v.tags @> p_tags)
               order by d, v.memory_id limit looked) n
       order by n.d, n.memory_id
    loop
      met := met + 1;
      if near.seen then
        shown := shown + 1;
        told := told || near.memory_id;
        memory_id := near.memory_id;
        distance := near.d;
        return next;
        exit when shown = p_limit;
      end if;
    end loop;
  else
    looked := pg_catalog.abs(p_rough);
    for near in
      select v.memory_id, v.embedding operator(public.<=>) p_query as d, v.audience <= reach
             or exists (select from memcube.memories m
                         where m.project_id = project and m.id = v.memory_id offset 0) as seen
        from (select s.memory_id
                from (select x.memory_id, x.bits from memcube.memory_vectors x
                       where x.project_id = project and x.generation = p_generation
                         and (p_tags = '{}' or x.tags @> p_tags) offset 0) s
               order by s.bits operator(public.<~>) public.binary_quantize(p_query) limit looked) r
       cross join lateral (select x.memory_id, x.embedding, x.audience from memcube.memory_vectors x
                            where x.project_id = project and x.generation = p_generation and x.memory_id = r.memory_id
                            limit 1) v
       order by d, v.memory_id
    loop
      met := met + 1;
      if near.seen then
        shown := shown + 1;
        told := told || near.memory_id;
        memory_id := near.memory_id;
        distance := near.d;
        return next;
        exit when shown = p_limit;
      end if;
    end loop;
  end if;
  if shown < p_limit and met >= looked then
    return query
    select v.memory_id, v.embedding operator(public.<=>) p_query as d
      from memcube.memory_vectors v
     where v.project_id = project and v.generation = p_generation and (p_tags = '{}' or v.tags @> p_tags)
       and (v.audience <= reach or exists (select from memcube.memories m
                                            where m.project_id = project and m.id = v.memory_id))
       and v.memory_id <> all (told)   -- by codes, those told are not the first by distance
     order by d, v.memory_id limit p_limit - shown;
  end if;
end $$;
reset role;
revoke create on schema memcube from memcube_search;

-- ── grants and policies ────────────────────────────────────────────────────────────────────────────

grant select on memcube.vector_graphs to memcube_search, memcube_dispatch;
grant select, insert, delete on memcube.vector_graphs to memcube_worker;
grant select (project_id, generation) on memcube.memory_vectors to memcube_dispatch;
grant select (id) on memcube.projects to memcube_dispatch;
grant select (generation, dimensions) on memcube.embedding_models to memcube_dispatch;
alter table memcube.vector_graphs enable row level security;
alter table memcube.vector_graphs force row level security;
create policy search_select on memcube.vector_graphs for select to memcube_search
  using (project_id = current_setting('app.project_id', true));
create policy worker_select on memcube.vector_graphs for select to memcube_worker
  using (project_id = current_setting('app.project_id', true));
create policy worker_insert on memcube.vector_graphs for insert to memcube_worker
  with check (project_id = current_setting('app.project_id', true)
              and current_setting('app.principal', true) = 'room:lifecycle');
create policy worker_delete on memcube.vector_graphs for delete to memcube_worker
  using (project_id = current_setting('app.project_id', true)
         and current_setting('app.principal', true) = 'room:lifecycle');
create policy dispatch_select on memcube.vector_graphs for select to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:lifecycle');
create policy dispatch_select on memcube.memory_vectors for select to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:lifecycle');
create policy dispatch_select on memcube.projects for select to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:lifecycle');
create policy dispatch_select on memcube.embedding_models for select to memcube_dispatch
  using (current_setting('app.principal', true) = 'room:lifecycle');


-- migrate:down
-- Forward only: a mistake is mended by the next migration.
