package main

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"trivet/raft"
	"trivet/storage"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The reference has every setting with the default it really has.
func TestReferenceOfSettings(t *testing.T) {
	reference := readDoc(t, "reference.md")
	s := defaultSettings()
	for _, k := range s.keys() {
		row := "| `" + k.name + "` | "
		if value := k.value.String(); value != "" {
			row += "`" + value + "` |"
		}
		if !strings.Contains(reference, row) {
			t.Errorf("no row %q", row)
		}
	}
}

// The reference has every command and every flag of its own.
func TestReferenceOfCommands(t *testing.T) {
	reference := readDoc(t, "reference.md")
	c := &cli{streams: streams{out: io.Discard, err: io.Discard}}
	settings := defaultSettings()
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		if len(cmd.Commands()) > 0 || cmd.Name() == "help" {
			return
		}
		// The row of a command begins with how it is used.
		row := regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(cmd.CommandPath()) + "[ `].*$").FindString(reference)
		if row == "" {
			t.Errorf("no row for %q", cmd.CommandPath())
		}
		for _, flag := range strings.Fields(cmd.NonInheritedFlags().FlagUsages()) {
			isSetting := slices.ContainsFunc(settings.keys(), func(k key) bool { return "--"+k.name == flag })
			if strings.HasPrefix(flag, "--") && flag != "--help" && !isSetting && !strings.Contains(row, flag) {
				t.Errorf("no %s in the row for %q", flag, cmd.CommandPath())
			}
		}
	}
	visit(c.rootCommand())
}

func TestReferenceOfMetrics(t *testing.T) {
	reference := readDoc(t, "reference.md")
	m := newMetrics()
	m.watch(&node{})
	names := regexp.MustCompile(`fqName: "([^"]+)"`)
	for _, c := range m.collectors {
		descriptions := make(chan *prometheus.Desc, 10)
		c.Describe(descriptions)
		name := names.FindStringSubmatch((<-descriptions).String())[1]
		if !strings.Contains(reference, "| `"+name+"` |") {
			t.Errorf("no row for %s", name)
		}
	}
}

func TestTestingNamesEveryFailpoint(t *testing.T) {
	page := readDoc(t, "testing.md")
	for _, site := range slices.Concat(storage.Sites(), raft.Sites()) {
		step, _ := strings.CutSuffix(site, ".after")
		step, _ = strings.CutSuffix(step, ".before")
		if !strings.Contains(page, "`"+step+".before`, `.after`") {
			t.Errorf("no row for %s", site)
		}
	}
}
