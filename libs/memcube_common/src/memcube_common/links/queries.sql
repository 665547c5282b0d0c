-- name: readable
-- Which of these memories the reader may read.
select m.id from unnest($2::uuid[]) as w (id)
 cross join lateral (select x.id from memories x where x.project_id = $1 and x.id = w.id limit 1) m;

-- name: read_versions
-- The versions in force of those among these memories that the reader may read.
select m.id, m.version from unnest($2::uuid[]) as w (id)
 cross join lateral (select x.id, x.version from memories x where x.project_id = $1 and x.id = w.id limit 1) m;

-- name: link_memories
-- Link memories to a task as READ or WRITE; says of each that the caller may read whether they may, and whether it is new.
select memory_id, allowed, is_new from link_memories($1, $2, $3::uuid[]);

-- name: unlink_memory
-- Take a memory off a task, in one role or (null) both; says of each link found whether the caller might.
select role, allowed from unlink_memory($1, $2, $3);

-- name: read_task_memories
-- Links of a task with memories the caller may read, newest memory first, below $3; of at most $4 memories.
select memory_id, role, created_by, created_at from task_memories($1, $2, $3, $4);

-- name: read_memory_tasks
-- Links of a memory the caller may read, by task, after $2; of at most $3 tasks.
select task_id, role, created_by, created_at from memory_tasks($1, $2, $3);

-- name: read_tasks
-- Tasks with how many memories they read and wrote that the caller may read, after $1.
select task_id, reads, writes, linked_at from tasks($1, $2);

-- name: begin_chain
-- Make a chain of memories in order; 'missing' where the caller may not read one of them.
select begin_chain($1, $2, $3, $4, $5::text[], $6::uuid[]);

-- name: hold_chain
-- Let nobody else change a chain until the transaction ends; a row only to who may change it.
select version from chains where project_id = $1 and id = $2 for update;

-- name: read_chain
-- A chain the caller may read, without its items.
select c.id, c.name, c.description, c.visibility, c.write_roles, c.version, c.created_by, c.created_at, c.updated_at,
       (select count(*) from chain_members(array[c.id])) as length
  from chains c where c.project_id = $1 and c.id = $2;

-- name: read_chains
-- Chains the caller may read, newest first, below $2.
select c.id, c.name, c.description, c.visibility, c.write_roles, c.version, c.created_by, c.created_at, c.updated_at,
       (select count(*) from chain_members(array[c.id])) as length
  from chains c where c.project_id = $1 and ($2::uuid is null or c.id < $2) order by c.id desc limit $3;

-- name: read_members
-- The items of a chain that the caller may read, in order.
select memory_id, token_count, added_by, added_at from chain_members(array[$1::uuid]);

-- name: arrange_chain
-- Make a chain show its caller exactly these memories in this order; at most $3 with those they do not see.
select arrange_chain($1, $2::uuid[], $3);

-- name: change_chain
-- Another name, description ($5: take it away) or governance; what is null stays, and what would change nothing is left.
update chains
   set name = coalesce($3, name), description = case when $5 then null else coalesce($4, description) end,
       visibility = coalesce($6, visibility), write_roles = coalesce($7::text[], write_roles),
       version = version + 1, updated_at = now()
 where project_id = $1 and id = $2
   and (name, description, visibility, write_roles) is distinct from
       (coalesce($3, name), case when $5 then null else coalesce($4, description) end, coalesce($6, visibility),
        coalesce($7::text[], write_roles));

-- name: delete_chain
-- End a chain; its memories stay.
delete from chains where project_id = $1 and id = $2 returning id;
