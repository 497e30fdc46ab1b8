// Command sqsd is an SQS server for tests, on 127.0.0.1 alone: goaws, without its own main, which listens on every
// address. It is a module of its own so that the product does not depend on it.
//
//	sqsd 127.0.0.1:PORT
package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/Admiral-Piett/goaws/app/gosqs"
	"github.com/Admiral-Piett/goaws/app/models"
	"github.com/Admiral-Piett/goaws/app/router"
	"github.com/sirupsen/logrus"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: sqsd 127.0.0.1:PORT")
	}
	host, port, err := net.SplitHostPort(os.Args[1])
	if err != nil || host != "127.0.0.1" {
		log.Fatal("only 127.0.0.1")
	}
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	logrus.SetOutput(io.Discard)
	models.CurrentEnvironment = models.Environment{Host: host, Port: port, Region: "us-east-1", AccountID: "100010001000",
		QueueAttributeDefaults: models.EnvQueueAttributes{VisibilityTimeout: 30, MaximumMessageSize: 262144, MessageRetentionPeriod: 345600}}
	go gosqs.PeriodicTasks(100*time.Millisecond, make(chan bool))
	log.Fatal((&http.Server{Handler: router.New(), ReadHeaderTimeout: 10 * time.Second}).Serve(l))
}
