package postgres

// heldHereSQL counts the instances that are held of what c is of: two members that are one instance count once. Where it takes what is late
// alone, its earlier revisions hold some too. heldBeforeSQL counts those of all revisions that there are.
const (
	heldHereSQL   = heldOf + `case when c.apart then ` + revisionsSQL + ` else array[c.id] end))`
	heldBeforeSQL = heldOf + revisionsSQL + `))`

	heldOf       = `(select count(distinct coalesce(m.instance, m.arrival)) from collection_member m where m.collection = any (`
	revisionsSQL = `array(select g.id from collection g where g.pipeline = c.pipeline and g.key_mac = c.key_mac)`
)

// verdictSQL weighs a count of r against what is held. 1: it is complete, since the archive has said so for long enough; a revision of what
// was complete before waits for more, if it can. 2: it waits for what is missing. 0: the count says nothing: nobody knows it, or more is held
// than it says, so that it is old.
const verdictSQL = `case
  when r.counted is null then 0
  when r.held = r.counted and r.asked_at - r.counted_at >= r.steady_us * interval '1 us' and (r.held > r.base or not r.quiet) then 1
  when r.held < r.counted and r.waits then 2
  else 0 end`

// claimAskSQL takes a question that is due, which nobody else has until its lease is over. $1 lease (us), $2 versions whose archives are
// not asked now.
const claimAskSQL = `
update collection c set asks = asks + 1, ask_at = clock_timestamp() + $1 * interval '1 us'
where c.id = any (array(
  select id from collection where not closed and ask_at <= now() and version <> all ($2::int[]) order by ask_at limit 1 for update skip locked))
returning c.id, c.asks, c.version, c.pipeline, c.source, coalesce(c.study, ''), coalesce(c.name, '')`

// nextAskSQL is how long it is until the next question, in seconds. $1 versions whose archives are not asked now.
const nextAskSQL = `
select extract(epoch from (select ask_at from collection where not closed and ask_at is not null and version <> all ($1::int[]) order by ask_at limit 1) - clock_timestamp())::float8`

// unansweredSQL asks again later. $1 id, $2 the question, $3 after (us).
const unansweredSQL = `
update collection set ask_at = clock_timestamp() + $3 * interval '1 us' where id = $1 and asks = $2 and not closed and ask_at is not null`

// lockOpenSQL waits for those who add members to a collection, so that the next statement sees them. $1 id.
const lockOpenSQL = `select from collection where id = $1 and not closed for update`

// answeredSQL takes a count in, unless a later question was answered. Where more was waited for until then, quiet begins with the answer: nobody
// knows how much of the time before was watched. $1 id, $2 the question, $3 count, $4 asked again after (us), $5 steady (us),
// $6 whether it waits for what the archive has, $7 quiet (us); 0: none.
const answeredSQL = `
with n as materialized (select clock_timestamp() as at),
r as materialized (
  select c.id, c.cap, c.base, n.at, $3::int as counted, n.at as asked_at, case when c.counted = $3 then c.counted_at else n.at end as counted_at,
    $5::bigint as steady_us, $6::bool as waits, $7::bigint > 0 as quiet, ` + heldHereSQL + ` as held,
    case when c.reason = 'quiet' then c.due else n.at + $7 * interval '1 us' end as until -- watchAgainSQL puts off what waits for quiet alone
  from collection c cross join n where c.id = $1 and not c.closed and c.answer < $2 and c.ask_at is not null and c.arrivals > 0),
v as materialized (select r.*, ` + verdictSQL + ` as verdict from r)
update collection c set counted = r.counted, counted_at = r.counted_at, asked_at = r.asked_at, answer = $2,
  due = case when r.verdict = 1 then r.at when r.verdict = 2 or not r.quiet then r.cap else least(r.cap, r.until) end,
  reason = case when r.verdict = 1 then 'expected' when r.verdict = 2 or not r.quiet or r.cap <= r.until then 'cap' else 'quiet' end,
  ask_at = case when c.asks > $2 then c.ask_at else least(r.at + $4 * interval '1 us',
    case when r.held = r.counted and r.asked_at - r.counted_at < r.steady_us * interval '1 us' then r.counted_at + r.steady_us * interval '1 us' end) end
from v r where c.id = r.id
returning (extract(epoch from c.due - r.at) * 1000000)::bigint, (extract(epoch from c.ask_at - r.at) * 1000000)::bigint`
