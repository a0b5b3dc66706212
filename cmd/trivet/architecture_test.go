package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows is the import table of docs/architecture.md: what each package may
// import of ours. Only cmd/trivet, the wiring, may import all.
var arrows = map[string][]string{
	"storage/message":  {},
	"storage/database": {"storage/message"},
	"storage/search":   {"storage/message"},
	"storage":          {"storage/message", "storage/database", "storage/search"},
	"raft":             {},
	"auth":             {"storage"},
	"dns":              {},
	"docs":             {},
	"imap/wire":        {},
	"imap":             {"imap/wire", "auth", "storage", "storage/message"},
	"spf":              {},
	"spf/dkim":         {},
	"spf/dmarc":        {"spf", "spf/dkim"},
	"spf/arc":          {"spf", "spf/dkim"},
	"spam":             {"storage/message"},
	"spam/threat":      {"spam", "storage/message"},
	"spam/sender":      {"spam", "spam/threat", "storage"},
	"smtp":             {"auth", "storage", "storage/message", "spf", "spf/dkim", "spf/dmarc", "spf/arc", "spam"},
	"smtp/queue":       {"storage", "storage/message", "spf/dkim"},
	"pgwire":           {"auth", "storage"},
	"web":              {"auth", "storage"},
	"web/release":      {"web", "storage"},
	"web/mail":         {"web", "auth", "storage", "storage/message"},
	"web/admin":        {"web", "auth", "storage", "storage/message"},
	"web/sql":          {"web", "auth", "storage", "storage/message"},
	"test":             {}, // whole-system tests: they start the binary; of its inside they know the names of the failpoints
}

const (
	module = "trivet"
	wiring = "cmd/trivet"
)

// goPackage is what 'go list -json' says of a package.
type goPackage struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var packages []goPackage
	decoder := json.NewDecoder(strings.NewReader(string(output)))
	for {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestImports(t *testing.T) {
	packages := listPackages(t)
	if len(packages) < 8 {
		t.Fatalf("only %d packages were found", len(packages))
	}
	for _, p := range packages {
		for _, problem := range wrongArrows(p) {
			t.Error(problem)
		}
	}
}

// wrongArrows returns what the table has against a package.
func wrongArrows(p goPackage) []string {
	name := strings.TrimPrefix(p.ImportPath, module+"/")
	if name == wiring {
		return nil
	}
	allowed, known := arrows[name]
	if !known {
		return []string{name + " is not on the import table"}
	}
	var problems []string
	for _, i := range p.Imports {
		ours, isOurs := strings.CutPrefix(i, module+"/")
		if isOurs && !slices.Contains(allowed, ours) {
			problems = append(problems, name+" may not import "+ours)
		}
	}
	return problems
}

func TestImportsFailOnWhatIsNotOnTheTable(t *testing.T) {
	tests := map[string]goPackage{
		"an arrow":       {ImportPath: "trivet/raft", Imports: []string{"fmt", "trivet/storage"}},
		"an arrow up":    {ImportPath: "trivet/storage", Imports: []string{"trivet/cmd/trivet"}},
		"a package":      {ImportPath: "trivet/util"},
		"a package deep": {ImportPath: "trivet/storage/internal/common"},
	}
	for name, p := range tests {
		if len(wrongArrows(p)) != 1 {
			t.Errorf("%s that is not on the table passes: %v", name, p)
		}
	}
	if problems := wrongArrows(goPackage{ImportPath: "trivet/auth", Imports: []string{"net", "trivet/storage"}}); problems != nil {
		t.Errorf("an arrow that is on the table: %v", problems)
	}
}
