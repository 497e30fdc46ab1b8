package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// RecordControl adds rows of control traffic to the record. A row that is there already stays.
func (s *Store) RecordControl(ctx context.Context, w gantry.WorkerID, rows []gantry.Control) error {
	batch := &pgx.Batch{}
	for i := range rows {
		x := &rows[i]
		var code *string
		if c := string(x.Code); c != "" {
			code = &c
		}
		batch.Queue(`insert into control_traffic (id, worker, from_at, to_at, req_size, resp_size, took_us, limiter, pipeline, requests, failures,
			status, boundary, processor, kind, error_code) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
			on conflict (id) do nothing`, x.ID, int64(w), x.From, x.To, x.ReqSize, x.RespSize, micros(x.Took), x.Limiter, x.Pipeline, x.Requests,
			x.Failures, x.Status, int16(x.Boundary), x.Index, int16(x.Kind), code)
	}
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("record control traffic: %w", err)
	}
	return nil
}

// ControlRow is control traffic as people see it: the sum of about a minute, or one failure.
type ControlRow struct {
	ID            string    `json:"id"`
	Pipeline      string    `json:"pipeline"`
	Boundary      string    `json:"boundary"`
	Target        string    `json:"target"`
	From          time.Time `json:"from"`
	To            time.Time `json:"to"`
	Requests      int       `json:"requests"`
	Failures      int       `json:"failures"`
	RequestBytes  int64     `json:"request_bytes"`
	ResponseBytes int64     `json:"response_bytes"`
	DurationMS    float64   `json:"duration_ms"`
	Status        int       `json:"status"`
	ErrorKind     string    `json:"error_kind,omitempty"`
	ErrorCode     string    `json:"error_code,omitempty"`
	Worker        int64     `json:"worker"`
}

var listControlSQL = `
select c.id::text, coalesce(pv.name, ''), (array['source','processor','sink','archive'])[c.boundary + 1], l.key, c.from_at, c.to_at, c.requests, c.failures,
  c.req_size, c.resp_size, c.took_us / 1000.0, c.status,
  case when c.error_code is not null then ` + fmt.Sprintf(kindNameSQL, `c.kind`) + ` else '' end, coalesce(c.error_code, ''), c.worker
from control_traffic c join limiter l on l.id = c.limiter left join pipeline_version pv on pv.id = c.pipeline
where c.at >= $1 and ($2 = '' or pv.name = $2) and ($3 = '' or (array['source','processor','sink','archive'])[c.boundary + 1] = $3)
  and ($4 = '' or (case when c.failures > 0 then 'failed' else 'ok' end) = $4)
order by c.to_at desc, c.id desc limit nullif($5, 0)`

// ControlTraffic lists control traffic, the newest first. Of the filter, pipeline, boundary, outcome
// (ok or failed), since and limit count.
func (s *Store) ControlTraffic(ctx context.Context, f Filter) ([]ControlRow, error) {
	since := f.Since
	if since.IsZero() {
		since = time.Unix(0, 0)
	}
	rows, err := s.ask.Query(ctx, listControlSQL, since, f.Pipeline, f.Boundary, f.Outcome, f.Limit)
	if err != nil {
		return nil, fmt.Errorf("list control traffic: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[ControlRow])
}
