-- +goose Up
set lock_timeout = '5s';

-- How its source finds the bytes of an arrival that were not copied. It may hold the object's name, so it is erasable
-- as name is; what was erased cannot be read again.
alter table arrival add column place text;
