GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
export CGO_ENABLED = 0

.PHONY: build demo test sim lint bench clean deps-demo deps-test

build: ## bin/gantry
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/gantry ./cmd/gantry

# The S3 server is the one that `make test` built, if it did.
demo: deps-demo build ## everything on this machine, in one command
	@PATH="$$PATH:$${XDG_CACHE_HOME:-$$HOME/.cache}/gantry-tools/versitygw-1.8.0" bin/gantry demo

test: deps-test ## all tests, with what they need
	sh test/run

SEEDS ?= 2000

sim: ## scheduler, engine and gate under faults in virtual time, one seed a run; and that it notices each missing guard
	$(GO) test ./internal/sim -run 'TestSeeds|TestControls|TestReplay' -seeds=$(SEEDS) -timeout 60m -v

lint: ## gofmt, vet, staticcheck
	sh test/lint

bench: deps-test build ## audited calls beside a bare client, claims, memory
	sh test/bench

deps-demo:
	@sh test/deps demo

deps-test:
	@sh test/deps test

clean:
	rm -rf bin out
