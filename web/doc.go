// Package web is the shell around everything that is served over HTTP. So far
// that is what an operator's tools ask: /healthz (the process is alive), /readyz
// (it can do its work, or why not) and /metrics (for Prometheus).
//
// A [Server] is made of a [Config] and serves any number of listeners. What it
// reports comes from the caller: a function that says whether the node is ready,
// and collectors of its own figures.
package web
