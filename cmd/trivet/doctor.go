package main

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// examination is what `trivet doctor` is to look at.
type examination struct {
	Offline      bool     `json:"offline"`       // ask nobody but this machine and the other nodes
	NoBlocklists bool     `json:"no_blocklists"` // do not ask these
	NTP          string   `json:"ntp"`           // HOST:PORT of a time server
	Exchange     []string `json:"exchange"`      // HOST:PORT of mail servers that should be reached; none: those of well-known domains
}

// timeServer is asked for the time unless another is named.
const timeServer = "pool.ntp.org:123"

func (c *cli) doctorCommand() *cobra.Command {
	cmd := command("doctor", "Look for what keeps mail from going and coming, and say what to do about it", 0, 0, nil)
	var in examination
	flags := cmd.Flags()
	flags.BoolVar(&in.Offline, "offline", false, "ask nobody but this machine and the other nodes")
	flags.BoolVar(&in.NoBlocklists, "no-blocklists", false, "do not ask blocklists about the addresses of the nodes")
	flags.StringVar(&in.NTP, "ntp", timeServer, "time server, HOST:PORT")
	flags.StringSliceVar(&in.Exchange, "reach", nil, "HOST:PORT of a mail server to be reached; may be repeated; default: those of well-known domains")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, _, err := net.SplitHostPort(in.NTP); err != nil {
			return usageOf(cmd, err)
		}
		findings := []finding{}
		if err := c.ask(cmd.Context(), "doctor", in, &findings); err != nil {
			return err
		}
		return c.printFindings(findings)
	}
	return cmd
}

// doctor examines one node, its cluster and its domains.
type doctor struct {
	node  *node
	in    examination
	dns   lookups
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	hosts []host
	ours  []netip.Addr // where the cluster is
}

const (
	// doctorPatience bounds all questions together: some wait for time-outs.
	doctorPatience = 45 * time.Second
	// maxParallelQuestions bounds how many are asked at once.
	maxParallelQuestions = 8
)

// examine answers `trivet doctor`: what concerns this machine first, then the cluster, then the domains.
func (n *node) examine(ctx context.Context, in examination) ([]finding, error) {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	resolver, err := n.settings.newResolver()
	if err != nil {
		return nil, err
	}
	d := &doctor{node: n, in: in, dns: resolver, dial: (&net.Dialer{}).DialContext}
	if d.hosts, err = n.hosts(ctx); err != nil {
		return nil, err
	}
	if !in.Offline {
		d.ours = addressesOf(ctx, resolver, d.hosts)
	}
	return inParallel(ctx, d.questions(ctx)), nil
}

// question is one thing to look at.
type question func(ctx context.Context) []finding

func (d *doctor) questions(ctx context.Context) []question {
	all := []question{d.disk, d.quorum, d.queue, d.searchIndex, d.certificates, d.peerClocks}
	if d.in.Offline {
		return all
	}
	all = append(all, d.resolver, d.validation, d.clock, d.port25)
	for _, h := range d.hosts {
		all = append(all, func(ctx context.Context) []finding { return d.reverse(ctx, h) })
	}
	if !d.in.NoBlocklists {
		all = append(all, d.blocklists)
	}
	domains, err := d.node.store.Domains(ctx)
	if err != nil {
		return append(all, failing("domains", err))
	}
	for _, domain := range domains {
		all = append(all, func(ctx context.Context) []finding { return d.domain(ctx, domain.Name) })
	}
	return all
}

func failing(check string, err error) question {
	return func(context.Context) []finding {
		return []finding{{Check: check, Status: statusFail, Found: err.Error()}}
	}
}

// inParallel asks all questions and keeps their order.
func inParallel(ctx context.Context, questions []question) []finding {
	answers := make([][]finding, len(questions))
	slots := make(chan struct{}, maxParallelQuestions)
	var all sync.WaitGroup
	for i, ask := range questions {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			answers[i] = ask(ctx)
		})
	}
	all.Wait()
	return slices.Concat(answers...)
}
