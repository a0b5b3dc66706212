// Command trivet hosts the mail of a domain: one binary, one data folder.
//
// This package is the wiring and the command line; what it wires lives in the
// rooms beside it. Four types carry it: the settings of a node (node.toml and
// its flags), its dataDir (lock, socket, files), the node itself (storage, log,
// servers, in the order they start and stop), and the controller, through which
// every other command asks the node that runs on a data folder.
package main
