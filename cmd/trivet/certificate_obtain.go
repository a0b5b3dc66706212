package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// obtainRequest is what `trivet certificate obtain` asks for.
type obtainRequest struct {
	Names []string `json:"names"` // none: all that lead here
	Force bool     `json:"force"`
}

// obtained is how it went with one name.
type obtained struct {
	Name     string    `json:"name"`
	NotAfter time.Time `json:"not_after,omitzero"`
	Problem  string    `json:"problem,omitempty"`
}

func (c *cli) certificateObtainCommand() *cobra.Command {
	cmd := command("obtain [NAME...]", "Order certificates now and wait for them: for the names given, or all that lead here", 0, unlimited, nil)
	force := cmd.Flags().Bool("force", false, "renew also what has long to live")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for i, name := range args {
			in, err := domainArgument(name)
			if err != nil {
				return err
			}
			args[i] = in.Name
		}
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		go c.showWaiting(ctx)
		results := []obtained{}
		if err := newController(c.dir).do(ctx, "certificate.obtain", obtainRequest{args, *force}, &results); err != nil {
			return err
		}
		if err := c.print(results, func(w io.Writer) { obtainedText(w, results) }); err != nil {
			return err
		}
		if slices.ContainsFunc(results, func(o obtained) bool { return o.Problem != "" }) {
			return errors.New("not all certificates were given")
		}
		return nil
	}
	return cmd
}

func obtainedText(w io.Writer, results []obtained) {
	if len(results) == 0 {
		fmt.Fprintln(w, "no name leads here; 'trivet certificate list' says why")
	}
	for _, o := range results {
		if o.Problem != "" {
			fmt.Fprintf(w, "%s\tno: %s\n", o.Name, o.Problem)
		} else {
			fmt.Fprintf(w, "%s\tuntil %s\n", o.Name, o.NotAfter.Format(time.DateOnly))
		}
	}
}

// showWaiting prints the records that somebody has to publish, each once, until ctx ends.
func (c *cli) showWaiting(ctx context.Context) {
	shown := map[challengeRecord]bool{}
	for sleep(ctx, time.Second/2) {
		var waiting []challengeRecord
		if c.ask(ctx, "certificate.waiting", nothing{}, &waiting) != nil {
			continue // the order itself says what is wrong
		}
		for _, r := range waiting {
			if !shown[r] {
				shown[r] = true
				fmt.Fprintf(c.err, "publish this record; the order goes on when the DNS has it:\n\n  %s\t60\tIN\tTXT\t%q\n\n", r.Name, r.Value)
			}
		}
	}
}

// obtainCertificates orders what is asked for, one after the other.
func (n *node) obtainCertificates(ctx context.Context, in obtainRequest) ([]obtained, error) {
	if err := n.acme.catchUp(ctx); err != nil { // somebody may have agreed on another node a moment ago
		return nil, storageError(err)
	}
	s, err := n.acmeSettings(ctx)
	if err != nil {
		return nil, err
	}
	if !s.Agreed {
		return nil, &storage.Error{Op: "order certificates", Kind: storage.KindDenied,
			Hint: "agree to the terms of the authority first: trivet certificate acme --agree"}
	}
	names := in.Names
	if len(names) == 0 {
		wanted, err := n.certificateNames(ctx, s)
		if err != nil {
			return nil, err
		}
		for _, w := range wanted {
			if w.Here {
				names = append(names, w.Name)
			}
		}
	}
	results := []obtained{}
	for _, name := range names {
		result := obtained{Name: name}
		if err := n.orderOne(ctx, name, in.Force); err != nil {
			result.Problem = err.Error()
		} else if client, err := n.acme.current(ctx); err == nil {
			if leaf, err := n.acme.got(ctx, client, name); err == nil && leaf != nil {
				result.NotAfter = leaf.NotAfter
			}
		}
		if ctx.Err() != nil {
			return results, ctx.Err()
		}
		results = append(results, result)
	}
	return results, nil
}
