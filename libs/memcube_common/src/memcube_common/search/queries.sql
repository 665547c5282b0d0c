-- name: by_words
-- Candidates by their words: the question's lexemes joined by OR, at most 32, those that stand first.
with question as materialized (
  select string_agg('''' || replace(replace(w.lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery as query
    from (select lexeme from projects p cross join lateral unnest(to_tsvector(p.language::regconfig, $2)) u
           where p.id = $1 order by u.positions[1], lexeme limit 32) w
)
select w.memory_id, w.score as text_score, null::float8 as similarity, null::int as vectors
  from question q cross join lateral text_candidates(q.query, $3::text[], $4, $5) w;

-- name: by_both
-- Candidates by words and by meaning. Where $10 is 0 every vector of the project is compared, else the nearest $10 by
-- their one-bit codes. With $8, also how many vectors the project has, counted up to $9.
with question as materialized (
  select string_agg('''' || replace(replace(w.lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery as query
    from (select lexeme from projects p cross join lateral unnest(to_tsvector(p.language::regconfig, $2)) u
           where p.id = $1 order by u.positions[1], lexeme limit 32) w
), words as materialized (
  select w.memory_id, w.score from question q cross join lateral text_candidates(q.query, $3::text[], $4, $5) w
   limit $5  -- known to the planner, unlike what a function returns
), near as materialized (
  select memory_id, distance from vector_candidates($7::smallint, $6::halfvec, $3::text[], $5, $10) limit $5
), counted as materialized (
  select case when $8 then count_vectors($7::smallint, $9) end as vectors
)
select coalesce(w.memory_id, n.memory_id) as memory_id, w.score as text_score,
       1 - coalesce(n.distance, d.distance) as similarity, c.vectors
  from words w full join near n on n.memory_id = w.memory_id
  left join vector_distances($7::smallint, $6::halfvec,
                             array(select memory_id from words except select memory_id from near)) d
    on d.memory_id = w.memory_id
 cross join counted c;

-- name: widened
-- Candidates among exactly those memories that may be shown: what is left out is left out first, so that the limit
-- cuts only what would be shown. Slower; asked when the quick way brought too few.
with question as materialized (
  select string_agg('''' || replace(replace(w.lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery as query
    from (select lexeme from projects p cross join lateral unnest(to_tsvector(p.language::regconfig, $2)) u
           where p.id = $1 order by u.positions[1], lexeme limit 32) w
), words as materialized (
  select m.id as memory_id, w.score
    from question q cross join lateral text_candidates(q.query, $3::text[], 2147483647, 2147483647) w
    join memories m on m.project_id = $1 and m.id = w.memory_id
   where m.lifecycle not in ('ARCHIVED', 'EXPIRED') and (m.expires_at is null or m.expires_at > now())
     and ($4::timestamptz is null or m.created_at <= $4)
   order by w.score desc, m.id limit $5
), near as materialized (
  select m.id as memory_id, v.distance
    from vector_candidates($7::smallint, $6::halfvec, $3::text[], 2147483647, 0) v
    join memories m on m.project_id = $1 and m.id = v.memory_id
   where m.lifecycle not in ('ARCHIVED', 'EXPIRED') and (m.expires_at is null or m.expires_at > now())
     and ($4::timestamptz is null or m.created_at <= $4)
   order by v.distance, m.id limit $5
)
select coalesce(w.memory_id, n.memory_id) as memory_id, w.score as text_score,
       1 - coalesce(n.distance, d.distance) as similarity, null::int as vectors
  from words w full join near n on n.memory_id = w.memory_id
  left join vector_distances($7::smallint, $6::halfvec,
                             array(select memory_id from words except select memory_id from near)) d
    on d.memory_id = w.memory_id;

-- name: read_found
-- The first $4 of these candidates that the reader may see and that are in force, in the order given.
with shown as materialized (
  select m.id, c.place
    from unnest($2::uuid[]) with ordinality as c (id, place)
   cross join lateral (select x.id, x.lifecycle, x.expires_at, x.created_at from memories x
                        where x.project_id = $1 and x.id = c.id limit 1) m
   where m.lifecycle not in ('ARCHIVED', 'EXPIRED') and (m.expires_at is null or m.expires_at > now())
     and ($3::timestamptz is null or m.created_at <= $3)
   order by c.place limit $4
)
select m.id, m.project_id, m.label, m.type, m.version, m.origin, m.provenance_id, m.parents, m.tags, m.governance,
       m.metadata, m.priority, m.lifecycle, m.trust, m.usage_hits, m.last_used, m.kv_hint, m.watermark, m.created_by,
       m.created_at, m.updated_at, m.embedding_state, m.embedding_model, m.embedding_reason,
       p.content, p.content_zstd, p.size_bytes, p.token_count, p.checksum
  from shown s
  join contents(array(select id from shown)) p on p.memory_id = s.id
 cross join lateral (select * from memories x where x.project_id = $1 and x.id = s.id limit 1) m
 order by s.place;

-- name: read_enough
-- The same where it gives all $4 of them, else nothing: who then looks further has read nothing yet, and nothing is
-- marked as read.
with shown as materialized (
  select m.id, c.place
    from unnest($2::uuid[]) with ordinality as c (id, place)
   cross join lateral (select x.id, x.lifecycle, x.expires_at, x.created_at from memories x
                        where x.project_id = $1 and x.id = c.id limit 1) m
   where m.lifecycle not in ('ARCHIVED', 'EXPIRED') and (m.expires_at is null or m.expires_at > now())
     and ($3::timestamptz is null or m.created_at <= $3)
   order by c.place limit $4
)
select m.id, m.project_id, m.label, m.type, m.version, m.origin, m.provenance_id, m.parents, m.tags, m.governance,
       m.metadata, m.priority, m.lifecycle, m.trust, m.usage_hits, m.last_used, m.kv_hint, m.watermark, m.created_by,
       m.created_at, m.updated_at, m.embedding_state, m.embedding_model, m.embedding_reason,
       p.content, p.content_zstd, p.size_bytes, p.token_count, p.checksum
  from shown s
  join contents(case when (select count(*) from shown) >= $4 then array(select id from shown) else '{}' end) p
    on p.memory_id = s.id
 cross join lateral (select * from memories x where x.project_id = $1 and x.id = s.id limit 1) m
 order by s.place;

-- name: newest
-- The newest memories in force; with tags, those that carry all of them.
select m.id, m.project_id, m.label, m.type, m.version, m.origin, m.provenance_id, m.parents, m.tags, m.governance,
       m.metadata, m.priority, m.lifecycle, m.trust, m.usage_hits, m.last_used, m.kv_hint, m.watermark, m.created_by,
       m.created_at, m.updated_at, m.embedding_state, m.embedding_model, m.embedding_reason,
       p.content, p.content_zstd, p.size_bytes, p.token_count, p.checksum
  from contents(array(
         select id from memories
          where project_id = $1 and ($2::text[] = '{}' or tags @> $2::text[])
            and lifecycle not in ('ARCHIVED', 'EXPIRED') and (expires_at is null or expires_at > now())
            and ($3::timestamptz is null or created_at <= $3)
          order by created_at desc, id desc limit $4)) p
 cross join lateral (select * from memories x where x.project_id = $1 and x.id = p.memory_id limit 1) m
 order by m.created_at desc, m.id desc;

-- name: newest_tagged
-- The same by way of the tag index, for tags that few memories carry; `carriers` counts up to $5 + 1 of them: where
-- there are more than $5, this answer would not be complete: it is empty, and `newest` gives it.
with carriers as materialized (
  select memory_id from tag_candidates($2::text[], $5 + 1)
), shown as materialized (
  select m.id, m.created_at
    from carriers c
   cross join lateral (select x.id, x.lifecycle, x.expires_at, x.created_at from memories x
                        where x.project_id = $1 and x.id = c.memory_id limit 1) m
   where m.lifecycle not in ('ARCHIVED', 'EXPIRED') and (m.expires_at is null or m.expires_at > now())
     and ($3::timestamptz is null or m.created_at <= $3)
   order by m.created_at desc, m.id desc limit $4
)
select m.id, m.project_id, m.label, m.type, m.version, m.origin, m.provenance_id, m.parents, m.tags, m.governance,
       m.metadata, m.priority, m.lifecycle, m.trust, m.usage_hits, m.last_used, m.kv_hint, m.watermark, m.created_by,
       m.created_at, m.updated_at, m.embedding_state, m.embedding_model, m.embedding_reason,
       p.content, p.content_zstd, p.size_bytes, p.token_count, p.checksum, k.carriers
  from (select count(*)::int as carriers from carriers) k
  left join (contents(case when (select count(*) from carriers) <= $5 then array(select id from shown) else '{}' end) p
             cross join lateral (select * from memories x
                                  where x.project_id = $1 and x.id = p.memory_id limit 1) m) on true
 order by m.created_at desc, m.id desc;
