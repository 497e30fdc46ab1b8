GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
export CGO_ENABLED = 0

.PHONY: build demo test sim chaos lint bench bench-scheduler bench-buckets bench-dicom clean deps-demo deps-test deps-bench-buckets

build: ## bin/gantry
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/gantry ./cmd/gantry

# The S3 server is the one that `make test` built, if it did.
demo: deps-demo build ## everything on this machine, in one command
	@PATH="$$PATH:$${XDG_CACHE_HOME:-$$HOME/.cache}/gantry-tools/versitygw-1.8.0" bin/gantry demo

test: deps-test ## all tests, with what they need
	sh test/run

# make test does so too, with fewer kills. CHAOS_CUTS: answers lost; CHAOS_SEED: another order; CHAOS_OUT: a file for the figures.
chaos: deps-test ## kill, freeze and cut off real processes; CHAOS_KILLS=n times
	CHAOS_KILLS=$${CHAOS_KILLS:-1000} $(GO) test -count=1 -timeout 90m -v ./test/chaos

SEEDS ?= 2000

sim: ## scheduler, engine and gate under faults in virtual time, one seed a run; and that it notices each missing guard
	$(GO) test ./internal/sim -run 'TestSeeds|TestControls|TestReplay' -seeds=$(SEEDS) -timeout 60m -v

lint: ## gofmt, vet, staticcheck
	sh test/lint

bench: deps-test build ## audited calls beside a bare client, claims, memory
	sh test/bench

bench-scheduler: deps-test build ## the scheduler beside River
	sh test/bench-scheduler

bench-buckets: deps-test deps-bench-buckets build ## from a bucket to the first call, beside rclone, and a million keys
	sh test/bench-buckets

bench-dicom: deps-test build ## C-STORE beside dcmtk and Orthanc, and from a study's last byte to the first call
	sh test/bench-dicom

deps-demo:
	@sh test/deps demo

deps-test:
	@sh test/deps test

deps-bench-buckets:
	@sh test/deps bench-buckets

clean:
	rm -rf bin out
