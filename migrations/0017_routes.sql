-- +goose Up
set lock_timeout = '5s';

-- The version that an arrival came through: that of the pipeline whose own source it is of, or that of a shared
-- source, whose name in pipeline_version is source:NAME. Where a shared source finds bytes that were not copied,
-- and by which rules an arrival was turned away, stands there. It is no reference: that would lock the row it names.
alter table arrival add column via int;
