package pipeline

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Size is a number of bytes, written with a binary unit: 20GiB.
type Size int64

// Rate is a number of calls per second, written per second, minute or hour: 20/s, 100/m.
type Rate float64

var (
	durationType  = reflect.TypeFor[time.Duration]()
	secretRefType = reflect.TypeFor[gantry.SecretRef]()

	expressionType = reflect.TypeFor[expression]()
	anyType        = reflect.TypeFor[any]()
)

// setText puts the text of a scalar into v, a settable value of any type that pipeline files know
// but lists, maps and structs. Its errors are for people and quote the text.
func setText(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	if v.Type() == durationType {
		d, err := parseDuration(text)
		v.SetInt(int64(d))
		return err
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%s is neither true nor false", short(text))
		}
		v.SetBool(text == "true")
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if errors.Is(err, strconv.ErrRange) {
			return fmt.Errorf("%s is out of range", short(text))
		}
		if err != nil || strconv.FormatInt(n, 10) != text {
			return fmt.Errorf("%s is no whole number", short(text))
		}
		v.SetInt(n)
	case reflect.Float64:
		f, err := parseNumber(text)
		v.SetFloat(f)
		return err
	default:
		panic(fmt.Sprintf("pipeline: a field of type %s cannot stand in a pipeline file", v.Type()))
	}
	return nil
}

func parseNumber(text string) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.Trim(text, "0123456789.eE+-") != "" || math.IsInf(f, 0) {
		return 0, fmt.Errorf("%s is no number", short(text))
	}
	return f, nil
}

// checkRange compares a number, duration, size or rate with the min and max tags of its field.
func checkRange(v reflect.Value, tag reflect.StructTag) error {
	for _, bound := range []string{"min", "max"} {
		text := tag.Get(bound)
		if text == "" {
			continue
		}
		limit := reflect.New(v.Type()).Elem()
		if err := setText(limit, text); err != nil {
			panic(fmt.Sprintf("pipeline: tag %s: %v", bound, err))
		}
		switch c := compare(v, limit); {
		case bound == "min" && c < 0:
			return fmt.Errorf("it must be at least %s", text)
		case bound == "max" && c > 0:
			return fmt.Errorf("it must be at most %s", text)
		}
	}
	return nil
}

func compare(a, b reflect.Value) int {
	if a.CanFloat() {
		return cmp.Compare(a.Float(), b.Float())
	}
	return cmp.Compare(a.Int(), b.Int())
}

const maxDuration = 10 * 365 * 24 * time.Hour

// parseDuration reads what time.ParseDuration reads, with days as an additional first unit.
func parseDuration(text string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return 0, fmt.Errorf("%s has no unit%s", short(text), didYouMean(text+"s"))
	}
	var days time.Duration
	rest := text
	if head, tail, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 12)
		if err != nil || (tail != "" && strings.ContainsAny(tail, "-+")) {
			return 0, fmt.Errorf("%s is no duration such as 10s, 5m, 12h or 30d", short(text))
		}
		days, rest = time.Duration(n)*24*time.Hour, tail
	}
	var d time.Duration
	if rest != "" || text == "" {
		var err error
		if d, err = time.ParseDuration(rest); err != nil {
			return 0, fmt.Errorf("%s is no duration such as 10s, 5m, 12h or 30d", short(text))
		}
	}
	switch {
	case d < 0:
		return 0, fmt.Errorf("%s is negative", short(text))
	case d > maxDuration || days > maxDuration:
		return 0, fmt.Errorf("%s is longer than ten years", short(text))
	}
	return days + d, nil
}

// formatDuration is the one spelling of a duration in a resolved pipeline: 1m, not 60s or 1m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText reads a whole number with one of the units B, KiB, MiB, GiB, TiB.
func (s *Size) UnmarshalText(b []byte) error {
	text := string(b)
	unit := strings.TrimLeft(text, "0123456789")
	n, err := strconv.ParseInt(strings.TrimSuffix(text, unit), 10, 64)
	for _, u := range sizeUnits {
		if u.name != unit || err != nil {
			continue
		}
		if n > math.MaxInt64/u.bytes {
			return fmt.Errorf("%s is too large", short(text))
		}
		*s = Size(n * u.bytes)
		return nil
	}
	if err == nil {
		if unit == "" {
			return fmt.Errorf("%s has no unit%s", short(text), didYouMean(text+"B"))
		}
		if i := strings.IndexByte("KMGT", unit[0]&^0x20); i >= 0 {
			return fmt.Errorf("%s: sizes have binary units%s", short(text), didYouMean(fmt.Sprintf("%d%ciB", n, "KMGT"[i])))
		}
	}
	return fmt.Errorf("%s is no size such as 512MiB or 20GiB", short(text))
}

// MarshalText gives the size in the largest unit that divides it.
func (s Size) MarshalText() ([]byte, error) {
	for _, u := range sizeUnits {
		if int64(s)%u.bytes == 0 && (s != 0 || u.bytes == 1) {
			return fmt.Appendf(nil, "%d%s", int64(s)/u.bytes, u.name), nil
		}
	}
	return fmt.Appendf(nil, "%dB", int64(s)), nil
}

// UnmarshalText reads a number above zero, per s, m or h.
func (r *Rate) UnmarshalText(b []byte) error {
	number, unit, ok := strings.Cut(string(b), "/")
	if !ok {
		return fmt.Errorf("%s has no unit%s", short(string(b)), didYouMean(string(b)+"/s"))
	}
	f, err := parseNumber(number)
	per := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if err != nil || per == 0 {
		return fmt.Errorf("%s is no rate such as 20/s or 100/m", short(string(b)))
	}
	if f/per < 1e-6 || f/per > 1e6 {
		return fmt.Errorf("%s is not between 0.000001/s and 1000000/s", short(string(b)))
	}
	*r = Rate(f / per)
	return nil
}

// MarshalText gives the rate per second.
func (r Rate) MarshalText() ([]byte, error) {
	return append(strconv.AppendFloat(nil, float64(r), 'g', -1, 64), "/s"...), nil
}

var (
	envReference    = regexp.MustCompile(`^\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}$`)
	envInText       = regexp.MustCompile(`\$\{[^}]*\}?`)
	fileReference   = regexp.MustCompile(`^\$\{file:(/[^{}$]+)\}$`)
	errLiteral      = errors.New("a secret stands here as a reference, ${env:NAME} or ${file:/path}, never itself")
	errPlaceholders = errors.New("${…} here is ${env:NAME}")
)

// isReference tells whether a text is nothing but a reference to a secret.
func isReference(text string) bool {
	if m := fileReference.FindStringSubmatch(text); m != nil {
		return filepath.Clean(m[1]) == m[1]
	}
	return envReference.MatchString(text)
}

// expand puts the environment's variables in place of ${env:NAME}. What a variable holds is taken
// as it is and not expanded again.
func expand(text string, env func(string) (string, bool)) (string, error) {
	var mistakes []error
	out := envInText.ReplaceAllStringFunc(text, func(ref string) string {
		m := envReference.FindStringSubmatch(ref)
		if m == nil {
			mistakes = append(mistakes, errPlaceholders)
			return ""
		}
		value, ok := env(m[1])
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("the environment variable %s is not set", m[1]))
		}
		return value
	})
	if len(mistakes) > 0 {
		return "", mistakes[0]
	}
	return out, nil
}

// checkOne compares a text with the names that the tags one and later of its field list.
func checkOne(text string, tag reflect.StructTag) error {
	names := strings.Fields(tag.Get("one"))
	switch {
	case len(names) == 0 || slices.Contains(names, text):
		return nil
	case slices.Contains(strings.Fields(tag.Get("later")), text):
		return fmt.Errorf("%s belongs to a later release", short(text))
	}
	hint := nearest(text, names)
	if hint == "" && len(names) == 1 {
		hint = names[0]
	}
	return fmt.Errorf("%s is not one of %s%s", short(text), strings.Join(names, ", "), didYouMean(hint))
}
