-- name: by_words
-- Candidates by their words and what decides about their places. The first row tells of the question: what its terms
-- weigh, in how many memories they stand, and how many candidates there are.
with asked as materialized (
  select coalesce(q.terms, '{}') as terms, coalesce(q.weights, '{}') as weights, coalesce(q.counts, '{}') as counts,
         coalesce(q.named, '{}') as named
    from projects p left join lateral question_terms(p.language, $2, $3) q on true where p.id = $1
), words as materialized (
  select w.memory_id
    from asked a cross join lateral word_candidates(a.terms, a.weights, a.counts, $4::text[], $5, $6) w
)
select null::uuid as memory_id, null::bigint as mask, null::int as tokens, null::smallint as traits, null::boolean as labelled,
       null::timestamptz as at, null::float8 as similarity, null::uuid as previous, null::bigint as previous_mask,
       null::float8 as previous_similarity, null::uuid as following, null::bigint as following_mask,
       null::float8 as following_similarity, a.weights, a.counts,
       (select count(*) from words)::int as worded, 0::int as neared, null::int as vectors
  from asked a
union all
select d.memory_id, d.mask, d.tokens, d.traits, d.labelled, d.at, d.similarity, d.previous, d.previous_mask,
       d.previous_similarity, d.following, d.following_mask, d.following_similarity, null, null, null, null, null
  from asked a cross join lateral text_details(a.terms, a.weights, a.named, 0::smallint, null, array(select memory_id from words), $7) d;

-- name: by_both
-- Candidates by words and by meaning; $11 says how the nearest are looked for (see vector_candidates). With $9, also how many vectors the project has, counted up to $10.
with asked as materialized (
  select coalesce(q.terms, '{}') as terms, coalesce(q.weights, '{}') as weights, coalesce(q.counts, '{}') as counts,
         coalesce(q.named, '{}') as named
    from projects p left join lateral question_terms(p.language, $2, $3) q on true where p.id = $1
), words as materialized (
  select w.memory_id
    from asked a cross join lateral word_candidates(a.terms, a.weights, a.counts, $4::text[], $5, $6) w
), near as materialized (
  select memory_id from vector_candidates($8::smallint, $7::halfvec, $4::text[], $6, $11) limit $6
), counted as materialized (
  select case when $9 then count_vectors($8::smallint, $10) end as vectors
)
select null::uuid as memory_id, null::bigint as mask, null::int as tokens, null::smallint as traits, null::boolean as labelled,
       null::timestamptz as at, null::float8 as similarity, null::uuid as previous, null::bigint as previous_mask,
       null::float8 as previous_similarity, null::uuid as following, null::bigint as following_mask,
       null::float8 as following_similarity, a.weights, a.counts,
       (select count(*) from words)::int as worded, (select count(*) from near)::int as neared, c.vectors as vectors
  from asked a cross join counted c
union all
select d.memory_id, d.mask, d.tokens, d.traits, d.labelled, d.at, d.similarity, d.previous, d.previous_mask,
       d.previous_similarity, d.following, d.following_mask, d.following_similarity, null, null, null, null, null
  from asked a cross join lateral text_details(a.terms, a.weights, a.named, $8::smallint, $7::halfvec, array(select memory_id from words union select memory_id from near), $12) d;

-- name: widened
-- Candidates among exactly those memories that are asked for: what is left out is left out first, so that the limit
-- cuts only what would be shown. Slower; asked when the quick way brought too few.
with asked as materialized (
  select coalesce(q.terms, '{}') as terms, coalesce(q.weights, '{}') as weights, coalesce(q.counts, '{}') as counts,
         coalesce(q.named, '{}') as named
    from projects p left join lateral question_terms(p.language, $2, $3) q on true where p.id = $1
), words as materialized (
  select w.memory_id
    from asked a cross join lateral word_candidates(a.terms, a.weights, a.counts, $4::text[], 2147483647, 2147483647)
           with ordinality w (memory_id, place)
   cross join lateral (
     select fits(x, row($9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
                    $16::text, $17::text, $18::text, $19::jsonb, $20::text[], $21::timestamptz,
                    $22::timestamptz, $23::timestamptz, $24::timestamptz, $25::timestamptz, $26::uuid[])::filters) as fit
       from memories x where x.project_id = $1 and x.id = w.memory_id limit 1) m
   where m.fit order by w.place limit $5
), near as materialized (
  select v.memory_id
    from vector_candidates($7::smallint, $6::halfvec, $4::text[], 2147483647, 0) v
   cross join lateral (
     select fits(x, row($9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
                    $16::text, $17::text, $18::text, $19::jsonb, $20::text[], $21::timestamptz,
                    $22::timestamptz, $23::timestamptz, $24::timestamptz, $25::timestamptz, $26::uuid[])::filters) as fit
       from memories x where x.project_id = $1 and x.id = v.memory_id limit 1) m
   where m.fit order by v.distance, v.memory_id limit $5
)
select null::uuid as memory_id, null::bigint as mask, null::int as tokens, null::smallint as traits, null::boolean as labelled,
       null::timestamptz as at, null::float8 as similarity, null::uuid as previous, null::bigint as previous_mask,
       null::float8 as previous_similarity, null::uuid as following, null::bigint as following_mask,
       null::float8 as following_similarity, a.weights, a.counts,
       (select count(*) from words)::int as worded, (select count(*) from near)::int as neared, null::int as vectors
  from asked a
union all
select d.memory_id, d.mask, d.tokens, d.traits, d.labelled, d.at, d.similarity, d.previous, d.previous_mask,
       d.previous_similarity, d.following, d.following_mask, d.following_similarity, null, null, null, null, null
  from asked a cross join lateral text_details(a.terms, a.weights, a.named, $7::smallint, $6::halfvec, array(select memory_id from words union select memory_id from near), $8) d;

-- name: widened_among
-- The same where few memories are asked for: $8 are all of them, and nothing of any other is read.
with asked as materialized (
  select coalesce(q.terms, '{}') as terms, coalesce(q.weights, '{}') as weights, coalesce(q.counts, '{}') as counts,
         coalesce(q.named, '{}') as named
    from projects p left join lateral question_terms(p.language, $2, $3) q on true where p.id = $1
), told as materialized (
  select d.*, w.heavy
    from asked a
   cross join lateral text_details(a.terms, a.weights, a.named, $6::smallint, $5::halfvec, $8::uuid[], $7) d
   cross join lateral (select sum(u.weight) as heavy from unnest(a.weights) with ordinality u (weight, n)
                        where d.mask >> (u.n - 1)::int & 1 = 1) w
), words as materialized (
  select memory_id from told where mask <> 0 order by heavy desc, tokens, memory_id desc limit $4
), near as materialized (
  select memory_id from told where similarity is not null order by similarity desc, memory_id limit $4
)
select null::uuid as memory_id, null::bigint as mask, null::int as tokens, null::smallint as traits, null::boolean as labelled,
       null::timestamptz as at, null::float8 as similarity, null::uuid as previous, null::bigint as previous_mask,
       null::float8 as previous_similarity, null::uuid as following, null::bigint as following_mask,
       null::float8 as following_similarity, a.weights, a.counts,
       (select count(*) from words)::int as worded, (select count(*) from near)::int as neared, null::int as vectors
  from asked a
union all
select d.memory_id, d.mask, d.tokens, d.traits, d.labelled, d.at, d.similarity, d.previous, d.previous_mask,
       d.previous_similarity, d.following, d.following_mask, d.following_similarity, null, null, null, null, null
  from told d where d.memory_id in (select memory_id from words union select memory_id from near);

-- name: count_widened
-- How many memories a question could rank, counted up to $5 by words and as many by meaning; with a floor $8 on the
-- similarity, those that reach it.
with asked as materialized (
  select coalesce(q.terms, '{}') as terms, coalesce(q.weights, '{}') as weights, coalesce(q.counts, '{}') as counts
    from projects p left join lateral question_terms(p.language, $2, $3) q on true where p.id = $1
), words as materialized (
  select w.memory_id
    from asked a cross join lateral word_candidates(a.terms, a.weights, a.counts, $4::text[], 2147483647, 2147483647) w
   cross join lateral (
     select fits(x, row($9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
                    $16::text, $17::text, $18::text, $19::jsonb, $20::text[], $21::timestamptz,
                    $22::timestamptz, $23::timestamptz, $24::timestamptz, $25::timestamptz, $26::uuid[])::filters) as fit
       from memories x where x.project_id = $1 and x.id = w.memory_id limit 1) m
   where $8::float8 is null and m.fit limit $5
), near as materialized (
  select v.memory_id
    from vector_candidates($7::smallint, $6::halfvec, $4::text[], 2147483647, 0) v
   cross join lateral (
     select fits(x, row($9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
                    $16::text, $17::text, $18::text, $19::jsonb, $20::text[], $21::timestamptz,
                    $22::timestamptz, $23::timestamptz, $24::timestamptz, $25::timestamptz, $26::uuid[])::filters) as fit
       from memories x where x.project_id = $1 and x.id = v.memory_id limit 1) m
   where ($8 is null or 1 - v.distance >= $8) and m.fit limit $5
)
select count(*) from (select memory_id from words union select memory_id from near) u;

-- name: common_words
-- Those of some words that stand in more than a share of the project's memories.
select w from projects p cross join lateral common_words(p.language, $2::text[], $3) w where p.id = $1;

-- name: read_found
-- The first $3 of these candidates that are asked for and that the reader may see, in the order given. With $4 only
-- where there are as many, else nothing: who then looks further has read nothing yet, and nothing is marked as read.
with shown as materialized (
  select c.id, c.place
    from unnest($2::uuid[]) with ordinality as c (id, place)
   cross join lateral (
     select fits(x, row($5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
                    $12::text, $13::text, $14::text, $15::jsonb, $16::text[], $17::timestamptz,
                    $18::timestamptz, $19::timestamptz, $20::timestamptz, $21::timestamptz, $22::uuid[])::filters) as fit
       from memories x where x.project_id = $1 and x.id = c.id limit 1) m
   where m.fit order by c.place limit $3
)
select m.id, m.project_id, m.label, m.type, m.version, m.origin, m.provenance_id, m.parents, m.tags, m.governance,
       m.metadata, m.priority, m.lifecycle, m.trust, m.usage_hits, m.last_used, m.kv_hint, m.watermark, m.created_by,
       m.created_at, m.updated_at, m.embedding_state, m.embedding_model, m.embedding_reason,
       p.content, p.content_zstd, p.size_bytes, p.token_count, p.checksum
  from shown s
  join contents(case when not $4 or (select count(*) from shown) >= $3 then array(select id from shown) else '{}' end) p
    on p.memory_id = s.id
 cross join lateral (select * from memories x where x.project_id = $1 and x.id = s.id limit 1) m
 order by s.place;

-- name: read_bare
-- The same without what was written: no content is touched, and nothing is marked as read.
with shown as materialized (
  select c.id, c.place
    from unnest($2::uuid[]) with ordinality as c (id, place)
   cross join lateral (
     select fits(x, row($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
                    $11::text, $12::text, $13::text, $14::jsonb, $15::text[], $16::timestamptz,
                    $17::timestamptz, $18::timestamptz, $19::timestamptz, $20::timestamptz, $21::uuid[])::filters) as fit
       from memories x where x.project_id = $1 and x.id = c.id limit 1) m
   where m.fit order by c.place limit $3
)
select m.id, m.project_id, m.label, m.type, m.version, m.origin, m.provenance_id, m.parents, m.tags, m.governance,
       m.metadata, m.priority, m.lifecycle, m.trust, m.usage_hits, m.last_used, m.kv_hint, m.watermark, m.created_by,
       m.created_at, m.updated_at, m.embedding_state, m.embedding_model, m.embedding_reason,
       null::text as content, null::bytea as content_zstd, null::int as size_bytes, null::int as token_count,
       ''::bytea as checksum
  from shown s
 cross join lateral (select * from memories x where x.project_id = $1 and x.id = s.id limit 1) m
 order by s.place;

-- name: walk
-- A page of a listing, by walking the memories in its order: ids and their places, and where the walk was broken off.
select memory_id as id, at, label, fit, looked
  from walk($1, $2, row($9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
                $16::text, $17::text, $18::text, $19::jsonb, $20::text[], $21::timestamptz, $22::timestamptz,
                $23::timestamptz, $24::timestamptz, $25::timestamptz, $26::uuid[])::filters,
            $3, $4, $5, $6, $7, $8);

-- name: among
-- A page of a listing where few memories come into question: those named (`ids`), those that carry tags (`tags`), those
-- whose labels lie in a range (`labels`). `few` counts up to $10 + 1 of them: beyond $10 this answer is empty, since it
-- would not be complete.
with few as materialized (
  select memory_id as id from tag_candidates($12::text[], $13::text[], $10 + 1) where $2 = 'tags'
  union all
  select x.id from memories x
   where $2 = 'labels' and x.project_id = $1 and x.lifecycle not in ('ARCHIVED', 'EXPIRED')
     and x.label collate "C" >= coalesce($18::text, $19::text)
     and case when $5::text is null then true else x.label collate "C" < $5 end
   limit $10 + 1
), named as materialized (
  select distinct id from unnest($28::uuid[]) u (id) where $2 = 'ids'
), counted as materialized (
  select count(*)::int as few from few
), page as (
  select c.id, m.at, m.label
    from (select id from few where (select few from counted) <= $10 union all select id from named) c
   cross join lateral (
     select x.label, case $3 when 'updated_at' then x.updated_at else x.created_at end as at,
            fits(x, row($11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
                    $18::text, $19::text, $20::text, $21::jsonb, $22::text[], $23::timestamptz,
                    $24::timestamptz, $25::timestamptz, $26::timestamptz, $27::timestamptz, $28::uuid[])::filters) as fit
       from memories x where x.project_id = $1 and x.id = c.id limit 1) m
   where m.fit
     and case when $8::uuid is null then true
              when $3 = 'label' and $4 then (m.label collate "C", c.id) < ($7::text, $8)
              when $3 = 'label' then (m.label collate "C", c.id) > ($7, $8)
              when $4 then (m.at, c.id) < ($6::timestamptz, $8)
              else (m.at, c.id) > ($6, $8) end
   order by case when $3 = 'label' and $4 then m.label collate "C" end desc,
            case when $3 = 'label' and not $4 then m.label collate "C" end,
            case when $3 <> 'label' and $4 then m.at end desc,
            case when $3 <> 'label' and not $4 then m.at end,
            case when $4 then c.id end desc, c.id
   limit $9
)
select k.few, p.id, p.at, p.label from counted k left join page p on true
 order by case when $3 = 'label' and $4 then p.label collate "C" end desc,
          case when $3 = 'label' and not $4 then p.label collate "C" end,
          case when $3 <> 'label' and $4 then p.at end desc,
          case when $3 <> 'label' and not $4 then p.at end,
          case when $4 then p.id end desc, p.id;

-- name: count_walked
-- How many memories fit, counted up to $1 of them among at most $2; and how many were looked at where that ended it.
select count(*) filter (where fit)::int as fit, max(looked)::int as looked
  from walk('created_at', true, row($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text,
                $11::text, $12::text, $13::jsonb, $14::text[], $15::timestamptz, $16::timestamptz,
                $17::timestamptz, $18::timestamptz, $19::timestamptz, $20::uuid[])::filters,
            null, null, null, null, $1, $2);

-- name: generation_in_force
-- The generation of vectors that questions are compared with, if its vectors have so many numbers.
select generation from embedding_models where current and dimensions = $1;
