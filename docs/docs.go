// Package docs is the user's manual, as the program carries it: the web shows it
// at /docs. It has files, and nothing else.
package docs

import "embed"

// Manual has the pages for users, by their paths in this folder.
//
//go:embed quickstart.md reference.md howto/*.md
var Manual embed.FS
