package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// acmeChange is what to change of [acmeSettings]; nil: as it is.
type acmeChange struct {
	Agreed    *bool     `json:"agreed"`
	Directory *string   `json:"directory"`
	Email     *string   `json:"email"`
	Challenge *string   `json:"challenge"`
	Names     *[]string `json:"names"`
	Roots     *string   `json:"roots"`
}

func (c *cli) certificateACMECommand() *cobra.Command {
	cmd := command("acme", "Show or change how certificates are got from an authority", 0, 0, nil)
	flags := cmd.Flags()
	agree := flags.Bool("agree", false, "agree to the authority's terms of service: from then on certificates are ordered and renewed")
	off := flags.Bool("off", false, "order and renew nothing any more")
	directory := flags.String("directory", letsEncrypt, "URL of the authority's ACME directory")
	email := flags.String("email", "", "address for the authority's notices; empty: postmaster of the first domain")
	challenge := flags.String("challenge", challengeAuto, "how a name is proven: "+strings.Join(challenges[:], ", "))
	names := flags.StringSlice("name", nil, "another name to get a certificate for; may be repeated")
	root := flags.String("root", "", "PEM file of whom to trust for the directory; empty: the system's")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var change acmeChange
		var err error
		if change.Agreed, err = agreement(*agree, *off); err != nil {
			return usageOf(cmd, err)
		}
		for name, set := range map[string]func(){
			"directory": func() { change.Directory = directory }, "email": func() { change.Email = email },
			"challenge": func() { change.Challenge = challenge }, "name": func() { change.Names = names },
			"root": func() { change.Roots, err = readRoots(*root) },
		} {
			if flags.Changed(name) {
				set()
			}
		}
		if err == nil {
			err = change.check()
		}
		if err != nil {
			return usageOf(cmd, err)
		}
		var now acmeSettings
		if err := c.ask(cmd.Context(), "certificate.acme", change, &now); err != nil {
			return err
		}
		return c.print(now, now.text)
	}
	return cmd
}

func agreement(agree, off bool) (*bool, error) {
	switch {
	case agree && off:
		return nil, errors.New("--agree and --off are opposites")
	case agree || off:
		return &agree, nil
	}
	return nil, nil
}

func readRoots(path string) (*string, error) {
	if path == "" {
		return &path, nil
	}
	data, err := os.ReadFile(path)
	roots := string(data)
	return &roots, err
}

func (change acmeChange) check() error {
	if change.Challenge != nil && !slices.Contains(challenges[:], *change.Challenge) {
		return fmt.Errorf("--challenge is one of %s", strings.Join(challenges[:], ", "))
	}
	if change.Directory != nil {
		if u, err := url.Parse(*change.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("--directory: %q is no https URL", *change.Directory)
		}
	}
	if change.Email != nil && *change.Email != "" && !strings.Contains(*change.Email, "@") {
		return fmt.Errorf("--email: %q is no address", *change.Email)
	}
	if change.Names != nil {
		for _, name := range *change.Names {
			if _, err := storage.CanonicalDomain(name); err != nil {
				return fmt.Errorf("--name: %w", err)
			}
		}
	}
	if change.Roots != nil && *change.Roots != "" && len(publicPEM([]byte(*change.Roots))) == 0 {
		return errors.New("--root: the file has no PEM certificate")
	}
	return nil
}

func (s acmeSettings) text(w io.Writer) {
	agreed := "yes"
	if !s.Agreed {
		agreed = "no: nothing is ordered; --agree to the authority's terms"
	}
	fmt.Fprintf(w, "agreed\t%s\ndirectory\t%s\nemail\t%s\nchallenge\t%s\n", agreed, s.Directory, s.Email, s.Challenge)
	if len(s.Names) > 0 {
		fmt.Fprintf(w, "names\t%s\n", strings.Join(s.Names, ", "))
	}
	if s.Roots != "" {
		fmt.Fprint(w, "roots\tof its own\n")
	}
}

// changeACME changes what is given, and says how it stands.
func (n *node) changeACME(ctx context.Context, change acmeChange) (acmeSettings, error) {
	if err := change.check(); err != nil {
		return acmeSettings{}, &storage.Error{Op: "change the ACME settings", Kind: storage.KindInvalid, Err: err}
	}
	s, err := n.acmeSettings(ctx)
	if err != nil || change == (acmeChange{}) {
		return s, err
	}
	set(&s.Agreed, change.Agreed)
	set(&s.Directory, change.Directory)
	set(&s.Email, change.Email)
	set(&s.Challenge, change.Challenge)
	set(&s.Roots, change.Roots)
	if change.Names != nil {
		s.Names = []string{}
		for _, name := range *change.Names {
			canonical, err := storage.CanonicalDomain(name)
			if err != nil {
				return s, err
			}
			s.Names = append(s.Names, canonical)
		}
	}
	value, err := json.Marshal(s)
	if err != nil {
		return s, err
	}
	if err := n.store.SetSetting(ctx, settingACME, value); err != nil {
		return s, err
	}
	return n.acmeSettings(ctx)
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}
