# Run "make" for the list of targets.

PREFIX  ?= /usr/local
DESTDIR ?=

# From git alone, the date too: the same commit gives the same binary.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  := $(shell git rev-parse --verify --quiet HEAD || echo unknown)
DATE    := $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)

# Installing onto the host itself is root's work; into a DESTDIR it is anybody's.
AS_ROOT := $(if $(DESTDIR),,$(shell test `id -u` = 0 || echo sudo))

.DEFAULT_GOAL := help
.PHONY: help build package test demo docs install uninstall fmt vet lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/opencoded, static and reproducible
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/opencoded ./cmd/opencoded

package: ## build packages for Debian and for Fedora and its like, reproducible, into bin
	scripts/package

test: ## run every tier of tests, installing what they need (REQUIRE=all: none may be left out)
	@scripts/test

demo: ## boot a throwaway machine and show two instances in it, installing what that needs
	@scripts/demo

docs: build ## write docs/options.md anew
	bin/opencoded config options --markdown > docs/options.md

install: build ## install program and unit to /usr/local (PREFIX=, DESTDIR=), and a default inventory where there is none
	$(AS_ROOT) install -D -m 0755 bin/opencoded '$(DESTDIR)$(PREFIX)/bin/opencoded'
	sed 's#/usr/local/bin#$(PREFIX)/bin#' packaging/opencoded.service > bin/opencoded.service
	$(AS_ROOT) install -D -m 0644 bin/opencoded.service '$(DESTDIR)$(PREFIX)/lib/systemd/system/opencoded.service'
	@if [ ! -e '$(DESTDIR)/etc/opencode/instances.toml' ]; then \
		set -x; $(AS_ROOT) install -D -m 0644 packaging/instances.toml '$(DESTDIR)/etc/opencode/instances.toml'; \
	fi

uninstall: ## remove program and unit; instances, their state and the inventory stay
	$(AS_ROOT) rm -f '$(DESTDIR)$(PREFIX)/bin/opencoded' '$(DESTDIR)$(PREFIX)/lib/systemd/system/opencoded.service'

fmt: ## format all Go files
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

vet: ## run go vet
	go vet ./...

lint: vet ## run go vet and say which Go files are not formatted
	@files=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$files" ]; then echo "not formatted (make fmt):"; echo "$$files"; exit 1; fi

clean: ## remove what the build and the tests have made here
	rm -rf bin tests/opencode/node_modules
