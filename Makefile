# Trivet: one binary, built and tested with Go alone.
# `make` says what there is; `make run` is the quickest look at it.

GO       ?= go
FUZZTIME ?= 20s
VERSION  ?=
REVISION := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS  := -X main.revision=$(REVISION) $(if $(VERSION),-X main.release=$(VERSION))
PACKAGES := $$($(GO) list ./... | grep -v '/test$$')

.PHONY: help build run test unit system lint nemesis queue big bench benchimap benchsql sqllogic eval-spam fuzz doc clean

help: ## say what there is
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 10

build: ## build bin/trivet
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags '$(LDFLAGS)' -o bin/trivet ./cmd/trivet

run: build ## build it and run a throw-away appliance with sample mail
	bin/trivet demo

test: lint unit system ## everything that must hold before a change lands

lint: ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not gofmt-ed: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

unit: ## tests of the packages, with the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 20m $(PACKAGES)

system: build ## tests that start the real binary, in ./test
	TRIVET_BINARY=$(CURDIR)/bin/trivet $(GO) test -count=1 -timeout 30m ./test/...

nemesis: build ## torment three nodes for ten minutes while mail comes in, and again under SQL
	TRIVET_BINARY=$(CURDIR)/bin/trivet TRIVET_NEMESIS=10m $(GO) test -count=1 -timeout 60m -v -run '^(TestNemesis|TestSQLHistory)$$' ./test

big: build ## fill a node with TRIVET_BIG of mail (2G), restart it, have others join it
	TRIVET_BINARY=$(CURDIR)/bin/trivet TRIVET_BIG=$${TRIVET_BIG:-2G} $(GO) test -count=1 -timeout 30m -v -run '^TestBigState$$' ./test

queue: build ## kill in the middle of DATA 50 times, one node and of three, and work through 100,000 recipients
	TRIVET_BINARY=$(CURDIR)/bin/trivet TRIVET_QUEUE_KILLS=50 TRIVET_QUEUE_SIZE=100000 $(GO) test -count=1 -timeout 60m -v -run '^(TestKilledInTheMiddleOfData|TestLeaseHolderKilledOfThree|TestLargeQueue)$$' ./test

bench: build ## measure the whole system, then the packages
	TRIVET_BINARY=$(CURDIR)/bin/trivet $(GO) test -run '^$$' -bench . -timeout 30m ./test
	$(GO) test -run '^$$' -bench . -benchmem -timeout 30m $(PACKAGES)

benchimap: build ## measure IMAP beside Dovecot, with 10,000 messages
	TRIVET_BINARY=$(CURDIR)/bin/trivet TRIVET_BENCH_IMAP=10000 TRIVET_BENCH_SETTLE=25s $(GO) test -count=1 -timeout 30m -v -run '^TestBenchIMAP$$' ./test

benchsql: build ## measure the databases, beside rqlite if TRIVET_BENCH_RQLITED names its server
	TRIVET_BINARY=$(CURDIR)/bin/trivet TRIVET_BENCH_SQL=$${TRIVET_BENCH_SQL:-3s} $(GO) test -count=1 -timeout 30m -v -run '^TestBenchSQL$$' ./test

sqllogic: build ## compare with a plain SQLite: the sqllogictest files in TRIVET_SQLLOGIC if it is set, and 100 made-up databases
	TRIVET_BINARY=$(CURDIR)/bin/trivet TRIVET_SQL_RANDOM=$${TRIVET_SQL_RANDOM:-100} $(GO) test -count=1 -timeout 120m -v -run '^(TestSQLLogic|TestRandomSQL)$$' ./test

fuzz: ## run each fuzzer for FUZZTIME
	@for file in $$(git grep -l '^func Fuzz' -- '*_test.go'); do \
	  for name in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' $$file); do \
	    echo "== $$(dirname $$file) $$name"; \
	    $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) || exit 1; \
	  done; \
	done

doc: ## print the documentation of every package
	@for package in $(PACKAGES); do $(GO) doc -all $$package; echo; done

clean: ## remove what was built
	rm -rf bin
