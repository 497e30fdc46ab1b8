//go:build chaos

package fail

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// plan is what is to happen at the points of this process.
type plan struct {
	at   map[string]*deed
	hits string   // file
	seen sync.Map // names of points that were passed
}

// deed happens at one pass of a point.
type deed struct {
	what string // kill, stop or exit
	on   int64
	n    atomic.Int64 // passes so far
}

var planned = sync.OnceValue(func() *plan {
	p, err := parse(os.Getenv("GANTRY_FAIL"))
	if err != nil {
		panic(err)
	}
	p.hits = os.Getenv("GANTRY_FAIL_HITS")
	return p
})

func parse(s string) (*plan, error) {
	p := &plan{at: map[string]*deed{}}
	for one := range strings.SplitSeq(s, ",") {
		if one == "" {
			continue
		}
		f := strings.Split(one, ":")
		if len(f) != 3 || f[1] != "kill" && f[1] != "stop" && f[1] != "exit" {
			return nil, fmt.Errorf("GANTRY_FAIL: %q is not name:kill|stop|exit:n", one)
		}
		n, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("GANTRY_FAIL: %q counts passes from 1", one)
		}
		p.at[f[0]] = &deed{what: f[1], on: n}
	}
	return p, nil
}

// Point marks a point by its name.
func Point(name string) {
	p := planned()
	if p.hits != "" {
		if _, seen := p.seen.LoadOrStore(name, true); !seen {
			note(p.hits, name)
		}
	}
	d := p.at[name]
	if d == nil || d.n.Add(1) != d.on {
		return
	}
	switch d.what {
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way; nothing more may happen here
	case "stop":
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "exit":
		os.Exit(3)
	}
}

func note(file, name string) {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	f.WriteString(name + "\n")
}
