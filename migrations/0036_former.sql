-- +goose Up
set lock_timeout = '5s';

-- Versions that came to light at a source are few, and looked up by the object.
create index arrival_former on arrival (source, ref_mac) where reason = 'former_version';
