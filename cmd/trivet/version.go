package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version of this source; the Makefile's build keeps it unless it is given another.
var release = "0.1.0-dev"

// versionInfo is what `trivet version --json` prints.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source, when it was built from a repository
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func currentVersion() versionInfo {
	v := versionInfo{Version: release, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}

func (c *cli) versionCommand() *cobra.Command {
	return command("version", "Print the version of this binary", 0, 0, func(*cobra.Command, []string) error {
		v := currentVersion()
		return c.print(v, line("trivet %s (%s, %s)", v.Version, v.Go, v.Platform))
	})
}
