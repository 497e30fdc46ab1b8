// Command stop ends the private servers that test processes left running for one another.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gantry-imaging/gantry/internal/localpg"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for name, noSync := range map[string]bool{"shared": true, "durable": false} {
		home := filepath.Join(os.TempDir(), fmt.Sprintf("gantry-test-%d", os.Getuid()), name)
		if _, err := os.Stat(filepath.Join(home, "postgres")); err != nil {
			continue
		}
		c, err := localpg.Open(ctx, localpg.Options{Home: home, NoSync: noSync})
		if err == nil {
			err = c.Close()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "stop test server:", err)
		}
	}
}
