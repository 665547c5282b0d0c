-- name: hold_sources
-- Let nobody change these memories until the transaction ends: something is derived from them.
select hold_sources($1::uuid[]);

-- name: insert_memories
-- Keep memories with their payload, their words and their place in the embedding queue; one already there is left
-- alone. Returns the ids that are new. The database announces them in the same transaction.
with given as (
  select * from unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[],
                       $10::text[], $11::text[], $12::timestamptz[], $13::text[], $14::text[], $15::bytea[], $16::int[],
                       $17::int[], $18::bytea[], $19::text[], $20::text[], $21::text[], $22::text[], $23::bytea[],
                       $24::text[], $25::bytea[], $26::smallint[])
    as g (id, label, origin, provenance_id, parents, tags, governance, metadata, priority, created_by, created_at,
          storage_mode, content, content_zstd, size_bytes, token_count, checksum, long_text, type, kv_hint, trust,
          content_bytes, object_key, blocks, traits)
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
  insert into memory_text (project_id, memory_id, tags, audience, tsv, traits, tokens, at, sequence)
  select $1, g.id, g.tags::text[], kept.audience,
         setweight(to_tsvector(p.language::regconfig, g.label), 'A')
           || to_tsvector(p.language::regconfig, coalesce(g.content, g.long_text, '')),
         g.traits | case when starts_with(coalesce(g.content, g.long_text, ''), left(g.label, 40)) then 0 else 8 end
           | case when g.trust = 'trusted' then 0 else 16 end,
         g.token_count, g.created_at,
         coalesce(sequence_of(g.tags::text[]),
                  case when g.origin like 'insight:%' and count(*) over (partition by g.origin) > 1 then g.origin end)
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
select revise_content($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

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

-- name: hold_memory
-- Let nobody else change a memory until the transaction ends; its version, only to who may change it.
select version from memories where project_id = $1 and id = $2 for no key update;

-- name: hold_lineage
-- Let nobody change memories and what was derived from them, nor derive more, until the transaction ends.
select hold_lineage($1::uuid[]);

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
-- a second vector, from a worker slower than its lease, changes and announces nothing. With $7 only while its generation
-- is in force: ready is what can be found. Returns the ids that are ready.
with given as (
  select * from unnest($3::uuid[], $4::bytea[], $5::halfvec[]) as g (id, content_hash, embedding) order by id offset 0
), fresh as (
  select g.id, g.content_hash, g.embedding, m.tags, m.audience
    from given g
   cross join lateral (select type, label, tags, audience, embedding_state, content_version from memories x
                        where x.project_id = $1 and x.id = g.id limit 1 for update) m
   cross join lateral (select checksum, version from memory_payloads x
                        where x.project_id = $1 and x.memory_id = g.id limit 1) p
   where m.embedding_state = 'pending'
     and (not $7 or exists (select from embedding_models x where x.generation = $2 and x.current))
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
), used as (
  update embedding_models set used_at = now() where generation = $2 and used_at is null and exists (select from saved)
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
-- The generation number of an embedding model, made at its first use; the first of all is in force.
with made as (
  insert into embedding_models (name, dimensions, fingerprint, current)
  select $1, $2, $3, not exists (select from embedding_models x where x.current)
   where not exists (select from embedding_models x where x.name = $1 and x.dimensions = $2 and x.fingerprint = $3)
  on conflict do nothing
  returning generation
)
select generation from made
union all
select generation from embedding_models where name = $1 and dimensions = $2 and fingerprint = $3
limit 1;

-- name: find_current_model
-- The model whose vectors are in force in the whole house, and whether any were kept yet.
select generation, name, dimensions, fingerprint, used_at is not null as used from embedding_models where current;

-- name: find_model
-- One generation's model.
select generation, name, dimensions, fingerprint, used_at is not null as used from embedding_models where generation = $1;

-- name: give_up_unused_model
-- Put no model in force, where the one that is has never given a vector.
update embedding_models set current = false where current and used_at is null;

-- name: put_first_model_in_force
-- Put a model in force where none is.
update embedding_models set current = true
 where generation = $1 and not exists (select from embedding_models x where x.current);

-- name: read_migration
-- The latest migration from one model to another, ended or not.
select id, target, state, from_generation, to_generation, problem, started_at, ready_at, switched_at, ended_at, swept_at
  from embedding_migrations order by id desc limit 1;

-- name: take_up_migration
-- The target of a migration is open: from here on memories are handed over to it.
update embedding_migrations set to_generation = $2, problem = null
 where id = $1 and to_generation is null and state = 'backfilling';

-- name: complain_of_migration
-- Why a migration does not get on; null where nothing is in its way.
update embedding_migrations set problem = $2
 where id = $1 and problem is distinct from $2 and state not in ('finished', 'cancelled');

-- name: refuse_migration
-- End a migration that cannot be made, before anything was done for it.
update embedding_migrations set state = 'cancelled', problem = $2, ended_at = now()
 where id = $1 and to_generation is null and state = 'backfilling';

-- name: start_migration
-- Begin a migration to a model; why not, else null.
select start_embedding_migration($1);

-- name: steer_migration
-- Take the migration a step on; why not, else null.
select steer_embedding_migration($1);

-- name: read_progress
-- How far a migration is, over all projects: memories to be handed over, handed over, and still waiting for a vector; how
-- many vectors were made, how many refused; and how many projects wait to be compared or swept.
select coalesce(sum(b.todo), 0)::bigint as todo, coalesce(sum(b.fed), 0)::bigint as fed,
       coalesce(sum(b.made), 0)::bigint as made, coalesce(sum(b.refused), 0)::bigint as refused,
       (select count(*) from work_queue q where q.kind = 'vector') as waiting,
       (select count(*) from work_queue q where q.kind = 'backfill') as feeding,
       (select count(*) from work_queue q where q.kind = 'compare') as comparing,
       (select count(*) from work_queue q where q.kind = 'sweep') as sweeping
  from embedding_backfills b where b.migration = $1;

-- name: read_found_out
-- What was found out in each project: refused texts and compared searches.
select project_id, refused, refusals::text as refusals, samples::text as samples
  from embedding_backfills where migration = $1 and (refused > 0 or samples is not null) order by project_id;

-- name: begin_backfill
-- Count what a project has to hand over, once.
insert into embedding_backfills (project_id, migration, todo)
select $1, $2, count(*) from memories where project_id = $1
on conflict do nothing;

-- name: count_other_vectors
-- How many memories of a project wait for their vector of another generation, counted up to $2.
select count(*) from (select from work_queue where project_id = $1 and kind = 'vector' limit $2) w;

-- name: feed_backfill
-- Hand the next memories of a project over, at most $4 behind $3, and go on behind them; how many there were.
with page as materialized (
  select id from memories where project_id = $1 and id > $3 order by id limit $4
), handed as (
  insert into work_queue (kind, project_id, item_id) select 'vector', $1, id from page on conflict do nothing
), onward as (
  insert into work_queue (kind, project_id, item_id)
  select 'backfill', $1, id from page order by id desc limit 1
  on conflict do nothing
), noted as (
  update embedding_backfills set fed = fed + (select count(*) from page) where project_id = $1 and migration = $2
)
select count(*) from page;

-- name: read_other_texts
-- What is to be embedded for other generations: as `read_texts`, with the state, and which of the generations $3 are lacking.
select m.id, m.type, m.label, m.embedding_state, p.content, p.content_zstd,
       case when m.type = 'PLAINTEXT' then p.checksum else sha256(convert_to(m.label, 'UTF8')) end as checksum,
       array(select g.generation from unnest($3::smallint[]) as g (generation)
              where not exists (select from memory_vectors v
                                 where v.project_id = $1 and v.generation = g.generation and v.memory_id = w.id)) as lacking
  from unnest($2::uuid[]) as w (id)
 cross join lateral (select id, type, label, embedding_state from memories x
                      where x.project_id = $1 and x.id = w.id limit 1) m
 cross join lateral (select content, content_zstd, checksum
                       from memory_payloads x where x.project_id = $1 and x.memory_id = w.id limit 1) p;

-- name: save_other_vectors
-- Keep vectors of another generation, where the content is still what was embedded, and count them; nothing is said on the
-- memory. Returns the memories that have theirs.
with given as (
  select * from unnest($4::uuid[], $5::bytea[], $6::halfvec[]) as g (id, content_hash, embedding) order by id offset 0
), fresh as (
  select g.id, g.content_hash, g.embedding, m.tags, m.audience
    from given g
   cross join lateral (select type, label, tags, audience, content_version from memories x
                        where x.project_id = $1 and x.id = g.id limit 1 for update) m
   cross join lateral (select checksum, version from memory_payloads x
                        where x.project_id = $1 and x.memory_id = g.id limit 1) p
   where case when m.type = 'PLAINTEXT' then p.checksum = g.content_hash and p.version = m.content_version
              else sha256(convert_to(m.label, 'UTF8')) = g.content_hash end
     and exists (select from embedding_migrations x where x.id = $3 and x.state not in ('finished', 'cancelled'))
), saved as (
  insert into memory_vectors (project_id, generation, memory_id, content_hash, tags, audience, embedding)
  select $1, $2, id, content_hash, tags, audience, embedding from fresh
  on conflict (project_id, generation, memory_id) do update
     set content_hash = excluded.content_hash, tags = excluded.tags, audience = excluded.audience,
         embedding = excluded.embedding
  returning memory_id
), used as (
  update embedding_models set used_at = now() where generation = $2 and used_at is null and exists (select from saved)
), noted as (
  insert into embedding_backfills (project_id, migration, made) select $1, $3, count(*) from saved
  on conflict (project_id, migration) do update set made = embedding_backfills.made + excluded.made
)
select memory_id as id from saved;

-- name: finish_other_vectors
-- Take memories off the queue that are not there any more, wait for their first vector, have all others ($3), or were
-- refused one ($4). Looked up here, so that one whose content changed at the last moment stays.
delete from work_queue q
 where q.kind = 'vector' and q.project_id = $1 and q.item_id = any($2::uuid[])
   and (q.item_id = any($4::uuid[])
        or not exists (select from memories m cross join unnest($3::smallint[]) as g (generation)
                        where m.project_id = $1 and m.id = q.item_id and m.embedding_state <> 'pending'
                          and not exists (select from memory_vectors v
                                           where v.project_id = $1 and v.generation = g.generation
                                             and v.memory_id = q.item_id)));

-- name: note_refusal
-- The other model will give no vector to these memories, for this reason: counted, and the first 20 named.
insert into embedding_backfills as b (project_id, migration, refused, refusals)
values ($1, $2, cardinality($4::text[]), jsonb_build_object($3::text,
          jsonb_build_object('count', cardinality($4::text[]), 'ids', to_jsonb(($4::text[])[:20]))))
on conflict (project_id, migration) do update
   set refused = b.refused + excluded.refused,
       refusals = b.refusals || jsonb_build_object($3::text, jsonb_build_object(
         'count', coalesce((b.refusals -> $3::text ->> 'count')::int, 0) + cardinality($4::text[]),
         'ids', (select jsonb_agg(e.id) from (
                   select i.id from jsonb_array_elements(coalesce(b.refusals -> $3::text -> 'ids', '[]') || to_jsonb($4::text[]))
                          with ordinality as i (id, place) order by i.place limit 20) e)));

-- name: sample_labels
-- Labels of the newest memories that have a vector of both generations: what somebody may ask for.
select m.id, m.label
  from (select x.id, x.label from memories x
         where x.project_id = $1 and x.lifecycle not in ('ARCHIVED', 'EXPIRED')
         order by x.created_at desc, x.id desc limit $4 * 2) m
 where exists (select from memory_vectors v where v.project_id = $1 and v.generation = $2 and v.memory_id = m.id)
   and exists (select from memory_vectors v where v.project_id = $1 and v.generation = $3 and v.memory_id = m.id)
 limit $4;

-- name: nearest_to
-- The ten memories nearest to a question in one generation, the memory it was made of left out: the 400 nearest by their
-- one-bit codes, exactly compared.
select v.memory_id
  from (select s.memory_id
          from (select x.memory_id, x.bits from memory_vectors x
                 where x.project_id = $1 and x.generation = $2 and x.memory_id <> $4 offset 0) s
         order by s.bits operator(public.<~>) public.binary_quantize($3::halfvec) limit 400) r
 cross join lateral (select x.memory_id, x.embedding from memory_vectors x
                      where x.project_id = $1 and x.generation = $2 and x.memory_id = r.memory_id limit 1) v
 order by v.embedding operator(public.<=>) $3::halfvec, v.memory_id limit 10;

-- name: keep_samples
-- What a comparison found in a project.
update embedding_backfills set samples = $3::jsonb where project_id = $1 and migration = $2;

-- name: sweep_vectors
-- Remove vectors of a generation that is done with from the next memories of a project, at most $4 behind $3, and go on
-- behind them; how many were removed. With the model in force, $5 and $6, memories say what they have: those it refused or
-- that nobody embedded by it yet wait for it, as new ones do.
with page as materialized (
  select id from memories where project_id = $1 and id > $3 order by id limit $4
), onward as (
  insert into work_queue (kind, project_id, item_id)
  select 'sweep', $1, id from page order by id desc limit 1
  on conflict do nothing
), gone as (
  delete from memory_vectors v
   where v.project_id = $1 and v.generation = $2 and v.memory_id = any(array(select id from page))
  returning v.memory_id
), having_one as materialized (
  select v.memory_id from memory_vectors v
   where v.project_id = $1 and v.generation = $5::smallint and v.memory_id = any(array(select id from page))
), relabelled as (
  update memories m
     set embedding_model = $6, embedding_reason = null, embedding_state = 'ready',
         embedded_at = case m.embedding_state when 'ready' then m.embedded_at else clock_timestamp() end
   where m.project_id = $1 and m.id = any(array(select memory_id from having_one))
     and (m.embedding_state = 'failed' or m.embedding_state = 'ready' and m.embedding_model is distinct from $6)
), lacking as (
  update memories m
     set embedding_model = null, embedding_reason = null, embedding_state = 'pending', embedded_at = null
   where $5::smallint is not null and m.project_id = $1 and m.embedding_state = 'ready'
     and m.id = any(array(select id from page except select memory_id from having_one))
  returning m.id
), queued as (
  insert into work_queue (kind, project_id, item_id) select 'embedding', $1, id from lacking on conflict do nothing
)
select (select count(*) from page) as looked, (select count(*) from gone) as removed;
