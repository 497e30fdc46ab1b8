-- +goose Up
set lock_timeout = '5s';

-- Whether there is a pipeline whose tasks have a time for extracting at all: few have.
create index pipeline_version_extracting on pipeline_version (id) where extracting_us > 0;
