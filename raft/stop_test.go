package raft

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"
)

// TestStopUnderLoad closes three nodes one after the other while all of them are given work, as an operator does who shuts a
// cluster down. Each close must end by itself.
func TestStopUnderLoad(t *testing.T) {
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		c := three(t, nil)
		ctx, stop := context.WithCancel(t.Context())
		var load sync.WaitGroup
		for _, n := range c.nodes {
			for range 8 {
				load.Go(func() {
					body := strings.Repeat("x", 20<<10)
					for ctx.Err() == nil && n.stop.Err() == nil {
						short, cancel := context.WithTimeout(ctx, time.Second)
						_, _ = n.Propose(short, []byte(body))
						cancel()
					}
				})
			}
		}
		time.Sleep(300 * time.Millisecond)
		order := c.followers()
		if round%2 == 0 {
			order = append([]*testNode{c.leader()}, order...)
		} else {
			order = append(order, c.leader())
		}
		for i, n := range order {
			closeInTime(t, fmt.Sprintf("round %d, node %d", round, i), n.Node)
		}
		stop()
		load.Wait()
		c.nodes = nil
	}
}

// closeInTime fails the test, with the goroutines, if closing hangs. It measures no speed: the limit is far above any wait.
func closeInTime(t *testing.T, what string, n *Node) {
	t.Helper()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = n.Close()
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		stacks := make([]byte, 4<<20)
		t.Fatalf("%s does not stop:\n%s", what, stacks[:runtime.Stack(stacks, true)])
	}
}

// fullPipeline is a pipeline of the library whose answers wait until they are taken, with no room for more requests.
type fullPipeline struct {
	answers chan hraft.AppendFuture
	closed  chan struct{}
	once    sync.Once
}

func (p *fullPipeline) AppendEntries(*hraft.AppendEntriesRequest, *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	<-p.closed
	return nil, hraft.ErrPipelineShutdown
}
func (p *fullPipeline) Consumer() <-chan hraft.AppendFuture { return p.answers }
func (p *fullPipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

type answered struct {
	hraft.AppendFuture
	success bool
}

func (a answered) Response() *hraft.AppendEntriesResponse {
	return &hraft.AppendEntriesResponse{Success: a.success}
}

// TestPipelineEndsWithARefusal is what the library does when a follower refuses: it takes no more answers, and is
// waiting to send meanwhile.
func TestPipelineEndsWithARefusal(t *testing.T) {
	for _, how := range []string{"refusal", "stop", "close"} {
		t.Run(how, func(t *testing.T) {
			inner := &fullPipeline{answers: make(chan hraft.AppendFuture), closed: make(chan struct{})}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			p := newPipeline(ctx, inner, func() bool { return false })
			sent := make(chan error, 1)
			go func() {
				_, err := p.AppendEntries(&hraft.AppendEntriesRequest{}, nil)
				sent <- err
			}()
			inner.answers <- answered{success: true}
			if a := <-p.Consumer(); !a.Response().Success {
				t.Fatal("another answer")
			}
			switch how {
			case "refusal":
				inner.answers <- answered{}
				if a := <-p.Consumer(); a.Response().Success {
					t.Fatal("another answer")
				}
			case "stop":
				stop()
			case "close":
				_ = p.Close()
			}
			if err := <-sent; err == nil {
				t.Error("it was sent")
			}
			_ = p.Close()
		})
	}
}
