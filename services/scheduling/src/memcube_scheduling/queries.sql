-- name: read_candidates
-- What comes into question, as far as the reader may read it: the found ($2), what is linked to the task ($3), what
-- carries a needed tag ($4), what is pinned, and without a question the most recent ($5 of them). Made until $6. Says
-- of each whether agent $7 may not read it: asked for by others with more rights ($8), as an AGENT of that name.
with linked as materialized (
  select distinct memory_id as id from task_memories($3, null, null, 200) where $3::text is not null
), tagged as materialized (
  select memory_id as id from tag_candidates(null, $4::text[], 1000) where $4::text[] <> '{}'
   order by memory_id desc limit 200
), recent as materialized (
  select memory_id as id
    from walk('created_at', true, row('{NEW,ACTIVE,STALE}', null, null, null, null, null, null, null, null, null, null,
                                      null, null, null, null, null, $6::timestamptz, null)::filters,
              null, null, null, null, $5, 4 * $5)
   where fit and $5 > 0
), named as materialized (
  select array(select id from unnest($2::uuid[]) f (id) union select id from linked union select id from tagged
               union select id from recent union select memory_id from pinned_memories(100)) as ids
)
select m.id, m.version, m.label, m.type, m.tags, m.priority, m.lifecycle, m.trust, m.usage_hits, m.last_used, m.kv_hint,
       m.created_at, m.expires_at, m.governance @> '{"pin": true}' and m.trust = 'trusted' as pinned,
       coalesce(m.governance #>> '{decay,policy}' = 'exponential', false) as decays,
       (m.governance #>> '{decay,half_life_days}')::float8 as half_life, (m.governance #>> '{decay,floor}')::float8 as floor,
       e.token_count, m.feedback, m.audit_reads, m.id in (select id from linked) as linked,
       case when $8 then $7 = any (m.denied)
                         or not ($7 = any (m.let_in) or m.visibility = 'public'
                                 or m.visibility = 'project' and 'AGENT' = any (m.read_roles))
            else $7 = any (m.denied) end as kept_from
  from named n cross join lateral extents(n.ids, false) e
 cross join lateral (select * from memories x where x.project_id = $1 and x.id = e.memory_id limit 1) m
 where m.lifecycle in ('NEW', 'ACTIVE', 'STALE') and ($6 is null or m.created_at <= $6);

-- name: read_insights
-- Insights that are no memories yet, newest first, with their words; and the words of the text $2.
select (i.entry).id, (i.entry).agent_id, (i.entry).insight, (i.entry).label, (i.entry).tags, (i.entry).priority,
       (i.entry).accepted_at,
       array_to_string(tsvector_to_array(to_tsvector(p.language::regconfig, (i.entry).insight)), e'\n') as words,
       array_to_string(tsvector_to_array(to_tsvector(p.language::regconfig, coalesce($2, ''))), e'\n') as asked,
       (i.entry).agent_id <> $5
       and ((i.entry).governance #> '{principals,deny}' ? $5
            or not ((i.entry).governance #> '{principals,allow}' ? $5 or (i.entry).governance ->> 'visibility' = 'public'
                    or (i.entry).governance ->> 'visibility' = 'project'
                       and (i.entry).governance -> 'read_roles' ? 'AGENT')) as kept_from
  from projects p
 cross join list_insights(null, null, 'accepted', null, null, 'ffffffff-ffff-ffff-ffff-ffffffffffff', $3, 500) i
 where p.id = $1 and not i.over and ($4::timestamptz is null or (i.entry).accepted_at <= $4);

-- name: current_generation
-- The generation of vectors that questions are compared with.
select generation from embedding_models where current;

-- name: read_words
-- The words by which memories are found, one a line: what says the same has the same.
select memory_id, words from extents($1::uuid[], true);

-- name: read_texts
-- What the chosen say, and the version that says it.
select p.memory_id, p.content, p.content_zstd, m.version
  from contents($2::uuid[]) p
 cross join lateral (select version from memories x where x.project_id = $1 and x.id = p.memory_id limit 1) m;

-- name: read_told
-- What memories said as of their versions, for who may read them now.
select w.id, w.version, v.label, v.tags, v.priority, v.kv_hint, m.type, m.trust, m.created_at, c.content, c.content_zstd
  from unnest($2::uuid[], $3::int[]) w (id, version)
 cross join lateral (select type, trust, created_at from memories x where x.project_id = $1 and x.id = w.id limit 1) m
 cross join lateral versions(w.id, w.version + 1, 1) v
 cross join lateral version_contents(w.id, w.version) c
 where v.version = w.version;

-- name: read_told_insights
-- Insights by id that are still there, for who may read them now.
select id, agent_id, insight, label, tags, priority, accepted_at from read_insights($1::uuid[]) where insight <> '(purged)';
