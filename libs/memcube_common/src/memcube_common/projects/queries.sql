-- name: read_settings
-- What a project decides about what is written into it.
select screening, near_duplicates from projects where id = $1;

-- name: set_settings
-- Set a project's settings; one that is not told ($2, $4 false) stays. Returns them as they are then.
update projects
   set screening = case when $2 then $3 else screening end,
       near_duplicates = case when $4 then $5::float8 else near_duplicates end
 where id = $1
returning screening, near_duplicates;
