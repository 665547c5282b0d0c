-- name: announce_object
-- An object is about to arrive: said before its first byte, so that none is ever unknown.
insert into objects (project_id, key, state, size_bytes) values ($1, $2, 'arriving', $3);

-- name: abandon_object
-- Nobody will keep this object: the next sweep takes it. One that was kept stays.
update objects set state = 'leaving', since = clock_timestamp()
 where project_id = $1 and key = $2 and state = 'arriving';

-- name: find_object
-- What is known of an object.
select state from objects where project_id = $1 and key = $2;
