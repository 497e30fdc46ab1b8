package postgres

import (
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"
)

// columnCodec is an array's codec that writes the columns of statements straight. pgx by itself makes an interface of each
// element and looks for its plan, which took most of the time of a commit on this side.
type columnCodec struct {
	*pgtype.ArrayCodec
	plans []columnPlan
}

// columnPlan writes slices of one type.
type columnPlan interface {
	pgtype.EncodePlan
	takes(value any) bool
}

// PlanEncode gives the plan for a column, pgx's own for all else.
func (c columnCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		for _, p := range c.plans {
			if p.takes(value) {
				return p
			}
		}
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

// column writes []T as an array of one dimension (array_recv of PostgreSQL): the number of dimensions, whether there are
// nulls, the type of the elements, how many, from which place; then each with its length, -1 for null.
type column[T any] struct {
	element uint32
	add     func(buf []byte, v T) []byte // with the length; nil for null
}

func (column[T]) takes(value any) bool { _, ok := value.([]T); return ok }

// Encode appends value to buf.
func (c column[T]) Encode(value any, buf []byte) ([]byte, error) {
	list, ok := value.([]T)
	if !ok {
		return nil, fmt.Errorf("encode column: %T is not %T", value, list)
	}
	nulls := len(buf) + 4
	for _, n := range [...]uint32{1, 0, c.element, uint32(len(list)), 1} {
		buf = binary.BigEndian.AppendUint32(buf, n)
	}
	for _, v := range list {
		if more := c.add(buf, v); more != nil {
			buf = more
			continue
		}
		buf = binary.BigEndian.AppendUint32(buf, 0xffffffff)
		buf[nulls+3] = 1
	}
	return buf, nil
}

// columnPlans are those of the arrays that the statements take, by their type in the database.
var columnPlans = map[uint32][]columnPlan{
	pgtype.BoolArrayOID: {column[bool]{pgtype.BoolOID, func(buf []byte, v bool) []byte {
		if v {
			return append(buf, 0, 0, 0, 1, 1)
		}
		return append(buf, 0, 0, 0, 1, 0)
	}}},
	pgtype.Int2ArrayOID: {column[int16]{pgtype.Int2OID, func(buf []byte, v int16) []byte {
		return binary.BigEndian.AppendUint16(append(buf, 0, 0, 0, 2), uint16(v))
	}}},
	pgtype.Int4ArrayOID: {column[int32]{pgtype.Int4OID, func(buf []byte, v int32) []byte {
		return binary.BigEndian.AppendUint32(append(buf, 0, 0, 0, 4), uint32(v))
	}}},
	pgtype.Int8ArrayOID: {column[int64]{pgtype.Int8OID, func(buf []byte, v int64) []byte {
		return binary.BigEndian.AppendUint64(append(buf, 0, 0, 0, 8), uint64(v))
	}}},
	pgtype.UUIDArrayOID: {column[[16]byte]{pgtype.UUIDOID, func(buf []byte, v [16]byte) []byte {
		return append(append(buf, 0, 0, 0, 16), v[:]...)
	}}},
	pgtype.ByteaArrayOID: {column[[]byte]{pgtype.ByteaOID, func(buf, v []byte) []byte {
		if v == nil {
			return nil
		}
		return append(binary.BigEndian.AppendUint32(buf, uint32(len(v))), v...)
	}}},
	pgtype.TextArrayOID: {column[string]{pgtype.TextOID, addText}, column[*string]{pgtype.TextOID, func(buf []byte, v *string) []byte {
		if v == nil {
			return nil
		}
		return addText(buf, *v)
	}}},
}

func addText(buf []byte, v string) []byte {
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(v))), v...)
}

// takeColumns has a connection write columns by columnPlans.
func takeColumns(m *pgtype.Map) {
	for oid, plans := range columnPlans {
		t, ok := m.TypeForOID(oid)
		if !ok {
			continue
		}
		if codec, ok := t.Codec.(*pgtype.ArrayCodec); ok {
			m.RegisterType(&pgtype.Type{Name: t.Name, OID: oid, Codec: columnCodec{codec, plans}})
		}
	}
}
