-- name: read_payload
-- Where the payload in force lies, for who may read the memory.
select m.type, m.version, c.storage_mode, c.content, c.content_bytes, c.content_zstd, c.object_key, c.blocks,
       c.size_bytes, c.checksum
  from contents(array[$2::uuid]) c
 cross join lateral (select x.type, x.version from memories x where x.project_id = $1 and x.id = c.memory_id limit 1) m;

-- name: read_version_payload
-- Where the payload of one version lies, for who may read the memory.
select m.type, $3::int as version, c.storage_mode, c.content, c.content_bytes, c.content_zstd, c.object_key, c.blocks,
       c.size_bytes, c.checksum
  from version_contents($2::uuid, $3::int) c
 cross join lateral (select x.type from memories x where x.project_id = $1 and x.id = c.memory_id limit 1) m;

-- name: read_target
-- What a new payload would be for.
select type, version from memories where project_id = $1 and id = $2;
