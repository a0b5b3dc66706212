package main

import (
	"runtime"

	"github.com/spf13/cobra"
)

// The linker sets these; see the Makefile.
var (
	release  = "0.1.0-dev"
	revision = "" // of the source; empty when it was not built by make
)

// versionInfo is what `trivet version --json` prints.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source, when it was built from a repository
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func currentVersion() versionInfo {
	return versionInfo{Version: release, Revision: revision, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
}

func (c *cli) versionCommand() *cobra.Command {
	return command("version", "Print the version of this binary", 0, 0, func(*cobra.Command, []string) error {
		v := currentVersion()
		return c.print(v, line("trivet %s (%s, %s)", v.Version, v.Go, v.Platform))
	})
}
