-- name: insert_memories
-- Keep memories with their payload, their words and their place in the embedding queue; one already there is left
-- alone. Returns the ids that are new. The database announces them in the same transaction.
with given as (
  select * from unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[],
                       $10::text[], $11::text[], $12::timestamptz[], $13::text[], $14::text[], $15::bytea[], $16::int[],
                       $17::int[], $18::bytea[], $19::text[], $20::text[], $21::text[], $22::text[], $23::bytea[],
                       $24::text[], $25::bytea[])
    as g (id, label, origin, provenance_id, parents, tags, governance, metadata, priority, created_by, created_at,
          storage_mode, content, content_zstd, size_bytes, token_count, checksum, long_text, type, kv_hint, trust,
          content_bytes, object_key, blocks)
), kept as (
  insert into memories (project_id, id, label, type, origin, provenance_id, parents, tags, governance, metadata,
                        priority, created_by, created_at, updated_at, kv_hint, trust)
  select $1, id, label, type, origin, provenance_id, parents::uuid[], tags::text[], governance::jsonb,
         metadata::jsonb, priority, created_by, created_at, created_at, kv_hint, trust
    from given
  on conflict (project_id, id) do nothing
  returning id, audience
), payloads as (
  insert into memory_payloads (project_id, memory_id, storage_mode, content, content_bytes, content_zstd, object_key,
                               blocks, size_bytes, token_count, checksum)
  select $1, id, storage_mode, content, content_bytes, content_zstd, object_key, blocks, size_bytes, token_count, checksum
    from given join kept using (id)
), words as (
  insert into memory_text (project_id, memory_id, tags, audience, tsv)
  select $1, g.id, g.tags::text[], kept.audience,
         to_tsvector(p.language::regconfig, g.label || ' ' || coalesce(g.content, g.long_text, ''))
    from given g join kept using (id) cross join projects p where p.id = $1
), queued as (
  insert into work_queue (kind, project_id, item_id) select 'embedding', $1, id from kept
)
select id from kept;

-- name: keep_objects
-- These objects belong to memories of this transaction from now on; returns those that had arrived and were not swept.
update objects set state = 'kept' where project_id = $1 and key = any($2::text[]) and state = 'arriving' returning key;

-- name: update_memory
-- Make the next version of a memory, of version $3 where that is given; what is null stays as it is. Returns the version.
update memories
   set label = coalesce($4, label), tags = coalesce($5::text[], tags), metadata = coalesce($6::jsonb, metadata),
       governance = coalesce($7::jsonb, governance), priority = coalesce($8, priority),
       kv_hint = case when $9::text is null then kv_hint else nullif($9, '') end,
       version = version + 1, content_version = case when $10 then version + 1 else content_version end,
       updated_at = now()
 where project_id = $1 and id = $2 and ($3::int is null or version = $3)
returning version;

-- name: mark_personal
-- Add to the kinds of personal data that a memory, changed by this transaction, is marked with.
select mark_personal($1, $2::text[]);

-- name: revise_content
-- Put other content, or only other words, in force; what was in force is kept with the version it came with.
select revise_content($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: set_lifecycle
-- Put memories away or take them back, as a version of its own; those that are so already are left alone.
update memories set lifecycle = $3, version = version + 1, updated_at = now()
 where project_id = $1 and id = $2 and ($4::int is null or version = $4) and lifecycle = any ($5::text[])
returning version, coalesce(expires_at <= now(), false) as over;

-- name: purge_memories
-- End memories for good, the first where it has version $3, if that is given; the database takes everything that tells
-- of their content with them. Returns those that ended.
delete from memories
 where project_id = $1 and id = any($2::uuid[]) and ($3::int is null or version = $3 or id <> ($2::uuid[])[1])
returning id;

-- name: find_derived
-- Everything that was derived from a memory, at most $2, also what the caller may not read.
select derived_from($1, $2) as id;

-- name: read_lineage
-- What a memory was derived from (distance below 0) and what was derived from it (above 0), nearest first.
select m.id, l.distance, m.label, m.type, m.version, m.lifecycle, m.parents, m.origin, m.created_by, m.created_at
  from lineage($2, $3, $4) l
 cross join lateral (select * from memories x where x.project_id = $1 and x.id = l.memory_id limit 1) m
 order by abs(l.distance), m.id;

-- name: read_versions
-- Versions of a memory, newest first, below version $2.
select version, label, tags, metadata, governance, priority, lifecycle, kv_hint, by, at, size_bytes, token_count, checksum
  from versions($1, $2, $3);

-- name: read_version_content
-- The content of one version, the one in force included.
select storage_mode, content, content_bytes, content_zstd, object_key, blocks, size_bytes, token_count, checksum
  from version_contents($1, $2);

-- name: read_head
-- The version in force, and the type.
select version, type from memories where project_id = $1 and id = $2;

-- name: read_trail
-- What happened to a memory, newest first, before event $3.
select seq, kind, version, changed, actor, role, source, at from memory_events
 where project_id = $1 and memory_id = $2 and ($3::bigint is null or seq < $3)
 order by seq desc limit $4;

-- name: read_memories
-- Memories by id with their payload; what the reader may not see is simply not returned.
select m.id, m.project_id, m.label, m.type, m.version, m.origin, m.provenance_id, m.parents, m.tags, m.governance,
       m.metadata, m.priority, m.lifecycle, m.trust, m.usage_hits, m.last_used, m.kv_hint, m.watermark, m.created_by,
       m.created_at, m.updated_at, m.embedding_state, m.embedding_model, m.embedding_reason,
       p.content, p.content_zstd, p.size_bytes, p.token_count, p.checksum
  from contents($2::uuid[]) p
 cross join lateral (select * from memories x where x.project_id = $1 and x.id = p.memory_id limit 1) m;

-- name: read_texts
-- What is to be embedded, for memories that still wait, and its SHA-256: a text's content, of bytes the label.
select m.id, m.type, m.label, p.content, p.content_zstd,
       case when m.type = 'PLAINTEXT' then p.checksum else sha256(convert_to(m.label, 'UTF8')) end as checksum
  from unnest($2::uuid[]) as w (id)
 cross join lateral (select id, type, label, embedding_state from memories x
                      where x.project_id = $1 and x.id = w.id limit 1) m
 cross join lateral (select content, content_zstd, checksum
                       from memory_payloads x where x.project_id = $1 and x.memory_id = w.id limit 1) p
 where m.embedding_state = 'pending';

-- name: save_vectors
-- Keep vectors of memories that still wait and whose content is still what was embedded, and say so on the memory:
-- a second vector, from a worker slower than its lease, changes and announces nothing. Returns the ids that are ready.
with given as (
  select * from unnest($3::uuid[], $4::bytea[], $5::halfvec[]) as g (id, content_hash, embedding)
), fresh as (
  select g.id, g.content_hash, g.embedding, m.tags, m.audience
    from given g
   cross join lateral (select type, label, tags, audience, embedding_state, content_version from memories x
                        where x.project_id = $1 and x.id = g.id limit 1 for update) m
   cross join lateral (select checksum, version from memory_payloads x
                        where x.project_id = $1 and x.memory_id = g.id limit 1) p
   where m.embedding_state = 'pending'
     and case when m.type = 'PLAINTEXT'  -- and not older than what the lock waited for
              then p.checksum = g.content_hash and p.version = m.content_version
              else sha256(convert_to(m.label, 'UTF8')) = g.content_hash end
), saved as (
  insert into memory_vectors (project_id, generation, memory_id, content_hash, tags, audience, embedding)
  select $1, $2, id, content_hash, tags, audience, embedding from fresh
  on conflict (project_id, generation, memory_id) do update
     set content_hash = excluded.content_hash, tags = excluded.tags, audience = excluded.audience,
         embedding = excluded.embedding
  returning memory_id
)
update memories m
   set embedding_state = 'ready', embedding_model = $6, embedding_reason = null, embedded_at = clock_timestamp()
 where m.project_id = $1 and m.id = any(array(select memory_id from saved))
returning m.id;

-- name: fail_embedding
-- A memory whose text can never be embedded: found by its words only, and it says why. Only where it is still the text
-- with the hash $4, if that is given.
update memories m
   set embedding_state = 'failed', embedding_reason = $3
 where project_id = $1 and id = $2 and embedding_state = 'pending'
   and ($4::bytea is null
        or case when m.type = 'PLAINTEXT'
                then exists (select from memory_payloads p where p.project_id = $1 and p.memory_id = $2
                                                             and p.version = m.content_version and p.checksum = $4)
                else sha256(convert_to(m.label, 'UTF8')) = $4 end)
returning id;

-- name: register_model
-- The generation number of an embedding model, made at its first use.
with made as (
  insert into embedding_models (name, dimensions, fingerprint) values ($1, $2, $3)
  on conflict (name, dimensions, fingerprint) do nothing
  returning generation
)
select generation from made
union all
select generation from embedding_models where name = $1 and dimensions = $2 and fingerprint = $3
limit 1;
