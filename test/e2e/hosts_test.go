package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// host is a machine as far as the network goes: a namespace with an address of its own, from which this process is
// reached over a pair of virtual interfaces. Without the right to make one it is this machine.
type host struct {
	space string // empty: none
	home  string
	file  string // its gantry.yaml
}

// hosts makes two machines, and gives the address at which both reach this process.
func hosts(t *testing.T) (a, b *host, address string) {
	t.Helper()
	a, b = &host{home: folder(t)}, &host{home: folder(t)}
	net := os.Getpid() % 250
	for i, h := range []*host{a, b} {
		space := fmt.Sprintf("gt%d-%d", os.Getpid(), i)
		near, far := fmt.Sprintf("gtn%d-%d", net, i), fmt.Sprintf("gtf%d-%d", net, i)
		gateway, own := fmt.Sprintf("10.231.%d.%d", net, 4*i+1), fmt.Sprintf("10.231.%d.%d", net, 4*i+2)
		t.Cleanup(func() {
			exec.Command("ip", "netns", "del", space).Run()
			exec.Command("ip", "link", "del", near).Run()
		})
		for _, args := range []string{
			"netns add " + space,
			"link add " + near + " type veth peer name " + far + " netns " + space,
			"addr add " + gateway + "/30 dev " + near,
			"link set " + near + " up",
			"-n " + space + " addr add " + own + "/30 dev " + far,
			"-n " + space + " link set " + far + " up",
			"-n " + space + " link set lo up",
			"-n " + space + " route add default via " + gateway,
		} {
			if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
				t.Logf("NO NETWORK NAMESPACES HERE (ip %s: %v: %s): the two machines are two processes with separate homes on one network", args, err, out)
				a.space, b.space = "", ""
				return a, b, "127.0.0.1"
			}
		}
		h.space = space
		if i == 0 {
			address = gateway
		}
	}
	return a, b, address
}

// forward passes connections to an address on to another, and gives the first.
func forward(t *testing.T, address, network, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				far, err := net.Dial(network, to)
				if err != nil {
					return
				}
				defer far.Close()
				go func() {
					io.Copy(far, near)
					far.(interface{ CloseWrite() error }).CloseWrite()
				}()
				io.Copy(near, far)
			}()
		}
	}()
	return l.Addr().String()
}
