package raft

import "slices"

// The named places at which Config.Failpoint is called.
const (
	siteAppendBefore   = "raft.append.before"   // entries are about to be written and fsynced
	siteAppendAfter    = "raft.append.after"    // entries are durable, nobody knows yet
	siteApplyBefore    = "raft.apply.before"    // a batch is about to be applied
	siteApplyAfter     = "raft.apply.after"     // the state machine has committed the batch
	siteMarkerBefore   = "raft.marker.before"   // the state is durable, its marker not yet written
	siteMarkerAfter    = "raft.marker.after"    // the marker is durable
	siteTruncateBefore = "raft.truncate.before" // entries are about to be deleted
	siteTruncateAfter  = "raft.truncate.after"  // entries are deleted
	siteStableBefore   = "raft.stable.before"   // term or vote is about to be written
	siteStableAfter    = "raft.stable.after"    // term or vote is durable
)

var sites = [...]string{
	siteAppendBefore, siteAppendAfter, siteApplyBefore, siteApplyAfter, siteMarkerBefore, siteMarkerAfter,
	siteTruncateBefore, siteTruncateAfter, siteStableBefore, siteStableAfter,
}

// Sites lists the names Config.Failpoint is called with, so that a test can visit each.
func Sites() []string { return slices.Clone(sites[:]) }
