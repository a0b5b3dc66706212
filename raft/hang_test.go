package raft

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestALeaderWhoseDiskHangsIsReplaced has fsync, or apply, not return on the leader. It is not ready, another one leads, and
// it is back when the disk is.
func TestALeaderWhoseDiskHangsIsReplaced(t *testing.T) {
	for _, site := range []string{siteAppendBefore, siteApplyBefore} {
		t.Run(site, func(t *testing.T) {
			var hangs atomic.Pointer[string]
			released := make(chan struct{})
			release := sync.OnceFunc(func() { close(released) })
			defer release()
			c := three(t, func(cfg *Config) {
				id := cfg.NodeID
				cfg.DiskTimeout = 2 * time.Second // a test's disk may be slow
				cfg.Failpoint = func(at string) error {
					if who := hangs.Load(); who != nil && *who == id && at == site {
						<-released
					}
					return nil
				}
			})
			before := c.leader()
			hangs.Store(&before.cfg.NodeID)
			rest := c.followers()
			eventually(t, "taken by another leader", func() error {
				_, err := rest[0].Propose(testContext(t), []byte("while it hangs"))
				if err == nil && rest[0].Status().Leader == before.cfg.NodeID {
					return errors.New("the same node leads")
				}
				return err
			})
			if before.Ready() == nil {
				t.Error("it is ready")
			}
			hangs.Store(nil)
			release()
			waitReady(t, before.Node)
			eventually(t, "back", func() error {
				_, err := before.Propose(testContext(t), []byte("it is back"))
				return err
			})
			c.same()
		})
	}
}
