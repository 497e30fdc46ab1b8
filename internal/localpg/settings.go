package localpg

import (
	"context"
	"io"
	"os"
	"strings"
)

// maxLog is the size at which a start puts the log aside.
const maxLog = 8 << 20

// settings suit one small machine. They stand on the command line, so they follow the program and
// not the data directory. Neither statements nor parameters nor the DETAIL of errors is logged,
// because those hold values of rows (see create, too).
func (s *server) settings(ctx context.Context, bin Binaries, socket string) []string {
	args := []string{"-D", s.place.data, "-h", "", "-k", socket, "-p", port}
	set := func(kv ...string) {
		for _, x := range kv {
			args = append(args, "-c", x)
		}
	}
	set("unix_socket_permissions=0700", "max_connections=200", "shared_buffers=128MB", "max_wal_size=4GB", "checkpoint_timeout=15min",
		"autovacuum_naptime=10s", "jit=off", "default_statistics_target=10", "timezone=UTC", "log_timezone=UTC",
		"logging_collector=off", "log_destination=stderr", "log_line_prefix=%m [%p] ", "log_statement=none",
		"log_min_error_statement=panic", "log_error_verbosity=terse", "log_parameter_max_length=0",
		"log_parameter_max_length_on_error=0", "log_min_duration_statement=-1", "log_autovacuum_min_duration=-1")
	if s.noSync {
		set("fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	// An optional part of a build: ask the program itself.
	lz4 := s.command(ctx, bin, "postgres", "-D", s.place.data, "-c", "wal_compression=lz4", "-C", "wal_compression")
	if lz4.Run() == nil {
		set("wal_compression=lz4")
	}
	return args
}

func (s *server) openLog() (*os.File, error) {
	if s.logSize() > maxLog {
		if err := os.Rename(s.place.log, s.place.log+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(s.place.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

func (s *server) logSize() int64 {
	fi, err := os.Stat(s.place.log)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// logTail is what the server wrote since from, its last few lines.
func (s *server) logTail(from int64) string {
	f, err := os.Open(s.place.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	if size := s.logSize(); size < from {
		from = 0
	} else if size-from > 4<<10 {
		from = size - 4<<10
	}
	b, _ := io.ReadAll(io.NewSectionReader(f, from, 4<<10))
	return lastLines(string(b), 8)
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
