-- name: insert_memories
-- Keep memories with their payload, their words and their place in the embedding queue; one already there is left
-- alone. Returns the ids that are new. The database announces them in the same transaction.
with given as (
  select * from unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[],
                       $10::text[], $11::text[], $12::timestamptz[], $13::text[], $14::text[], $15::bytea[], $16::int[],
                       $17::int[], $18::bytea[], $19::text[])
    as g (id, label, origin, provenance_id, parents, tags, governance, metadata, priority, created_by, created_at,
          storage_mode, content, content_zstd, size_bytes, token_count, checksum, long_text)
), kept as (
  insert into memories (project_id, id, label, type, origin, provenance_id, parents, tags, governance, metadata,
                        priority, created_by, created_at, updated_at)
  select $1, id, label, 'PLAINTEXT', origin, provenance_id, parents::uuid[], tags::text[], governance::jsonb,
         metadata::jsonb, priority, created_by, created_at, created_at
    from given
  on conflict (project_id, id) do nothing
  returning id, audience
), payloads as (
  insert into memory_payloads (project_id, memory_id, storage_mode, content, content_zstd, size_bytes, token_count, checksum)
  select $1, id, storage_mode, content, content_zstd, size_bytes, token_count, checksum from given join kept using (id)
), words as (
  insert into memory_text (project_id, memory_id, tags, audience, tsv)
  select $1, g.id, g.tags::text[], kept.audience, to_tsvector(p.language::regconfig, g.label || ' ' || coalesce(g.content, g.long_text))
    from given g join kept using (id) cross join projects p where p.id = $1
), queued as (
  insert into work_queue (kind, project_id, item_id) select 'embedding', $1, id from kept
)
select id from kept;

-- name: read_memories
-- Memories by id with their payload; what the reader may not see is simply not returned.
select m.id, m.project_id, m.label, m.type, m.version, m.origin, m.provenance_id, m.parents, m.tags, m.governance,
       m.metadata, m.priority, m.lifecycle, m.trust, m.usage_hits, m.last_used, m.kv_hint, m.watermark, m.created_by,
       m.created_at, m.updated_at, m.embedding_state, m.embedding_model, m.embedding_reason,
       p.content, p.content_zstd, p.size_bytes, p.token_count, p.checksum
  from contents($2::uuid[]) p
 cross join lateral (select * from memories x where x.project_id = $1 and x.id = p.memory_id limit 1) m;

-- name: set_governance
-- State anew who may do what with a memory; what applies, the database works out. Returns the id if it may be changed.
update memories set governance = $3::jsonb, version = version + 1, updated_at = now()
 where project_id = $1 and id = $2
returning id;

-- name: read_texts
-- What is to be embedded: content and its hash, for memories that still wait.
select m.id, p.content, p.content_zstd, p.checksum
  from unnest($2::uuid[]) as w (id)
 cross join lateral (select id, embedding_state from memories x where x.project_id = $1 and x.id = w.id limit 1) m
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
   cross join lateral (select tags, audience, embedding_state from memories x
                        where x.project_id = $1 and x.id = g.id limit 1 for update) m
   cross join lateral (select checksum from memory_payloads x where x.project_id = $1 and x.memory_id = g.id limit 1) p
   where m.embedding_state = 'pending' and p.checksum = g.content_hash
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
-- A memory whose text can never be embedded: found by its words only, and it says why.
update memories
   set embedding_state = 'failed', embedding_reason = $3
 where project_id = $1 and id = $2 and embedding_state = 'pending'
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
