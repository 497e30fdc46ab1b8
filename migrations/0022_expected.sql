-- +goose Up
set lock_timeout = '5s';

-- What an archive says there is of an open collection's study or series, and when it is asked again.
alter table collection
  add column study      text,                             -- Study Instance UID that is asked about; erasable
  add column apart      boolean not null default false,   -- it holds what came late alone: what earlier revisions hold is held too
  add column base       int     not null default 0,       -- instances that were held when it was opened
  add column counted    int,                              -- instances that there are; null: nobody knows
  add column counted_at timestamptz,                      -- when that was said first, and nothing else since
  add column asked_at   timestamptz,                      -- when it was said last
  add column ask_at     timestamptz,                      -- when to ask again; null: never
  add column asks       int     not null default 0,       -- questions so far
  add column answer     int     not null default 0;       -- the question that was answered last

create index collection_ask on collection (ask_at) where not closed and ask_at is not null;

-- What stands for a member's SOP instance: two members that are one instance have the same. Null: it is one of its own.
alter table collection_member add column instance bigint;
