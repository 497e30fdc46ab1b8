package postgres

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
)

// TestColumnsAsPgxWritesThem compares the bytes of columns with those of pgx by itself.
func TestColumnsAsPgxWritesThem(t *testing.T) {
	t.Parallel()
	text := "ä\x00\"{}"
	plain, own := pgtype.NewMap(), pgtype.NewMap()
	takeColumns(own)
	seen := map[uint32]bool{}
	for _, c := range []struct {
		oid    uint32
		values []any
	}{
		{pgtype.BoolArrayOID, []any{[]bool{true, false}, []bool{}, []bool(nil)}},
		{pgtype.Int2ArrayOID, []any{[]int16{0, 1, -1, math.MinInt16, math.MaxInt16}, []int16{}, []int16(nil), []int32{7}}},
		{pgtype.Int4ArrayOID, []any{[]int32{0, 1, -1, math.MinInt32, math.MaxInt32}, []int32{}, []int64{7}, []int16{7}}},
		{pgtype.Int8ArrayOID, []any{[]int64{0, 1, -1, math.MinInt64, math.MaxInt64}, []int64{}, []int32{7}}},
		{pgtype.UUIDArrayOID, []any{[][16]byte{{}, {1, 2, 15: 255}}, [][16]byte{}}},
		{pgtype.ByteaArrayOID, []any{[][]byte{{}, nil, {0}, bytes.Repeat([]byte{255}, 70_000)}, [][]byte{}, [][]byte{nil}}},
		{pgtype.TextArrayOID, []any{[]string{"", text}, []string{}, []*string{nil, &text}, []*string{}}},
	} {
		seen[c.oid] = true
		for _, v := range c.values {
			want, werr := plain.Encode(c.oid, pgtype.BinaryFormatCode, v, []byte("before"))
			got, err := own.Encode(c.oid, pgtype.BinaryFormatCode, v, []byte("before"))
			if werr != nil || err != nil || !bytes.Equal(want, got) || (want == nil) != (got == nil) {
				t.Errorf("%T of type %d: %.200x, %v; want %.200x, %v", v, c.oid, got, err, want, werr)
			}
			want, werr = plain.Encode(c.oid, pgtype.TextFormatCode, v, nil)
			if got, err = own.Encode(c.oid, pgtype.TextFormatCode, v, nil); fmt.Sprint(werr) != fmt.Sprint(err) || !bytes.Equal(want, got) {
				t.Errorf("%T of type %d as text: %q, %v; want %q, %v", v, c.oid, got, err, want, werr)
			}
		}
		if got, want := own.FormatCodeForOID(c.oid), plain.FormatCodeForOID(c.oid); got != want {
			t.Errorf("type %d is sent in format %d, not %d", c.oid, got, want)
		}
	}
	for oid := range columnPlans {
		if _, ok := codecOf(own, oid).(columnCodec); !ok || !seen[oid] {
			t.Errorf("type %d is written by %T; tested: %t", oid, codecOf(own, oid), seen[oid])
		}
	}
}

func codecOf(m *pgtype.Map, oid uint32) pgtype.Codec {
	t, _ := m.TypeForOID(oid)
	return t.Codec
}

// TestNoColumn is an error, not a panic, where a plan meets another type.
func TestNoColumn(t *testing.T) {
	t.Parallel()
	for oid, plans := range columnPlans {
		for _, p := range plans {
			if _, err := p.Encode(1.5, nil); err == nil || p.takes(1.5) {
				t.Errorf("type %d takes a number", oid)
			}
		}
	}
}

// BenchmarkColumns writes a column of fifty numbers and one of fifty digests.
func BenchmarkColumns(b *testing.B) {
	numbers, digests := make([]int32, 50), make([][]byte, 50)
	for i := range digests {
		digests[i] = make([]byte, 32)
	}
	for name, take := range map[string]func(*pgtype.Map){"own": takeColumns, "pgx": func(*pgtype.Map) {}} {
		b.Run(name, func(b *testing.B) {
			m := pgtype.NewMap()
			take(m)
			var buf []byte
			var err error
			for b.Loop() {
				if buf, err = m.Encode(pgtype.Int4ArrayOID, pgtype.BinaryFormatCode, numbers, buf[:0]); err == nil {
					buf, err = m.Encode(pgtype.ByteaArrayOID, pgtype.BinaryFormatCode, digests, buf[:0])
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
