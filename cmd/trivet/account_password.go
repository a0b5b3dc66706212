package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/auth"
	"trivet/storage"
)

func (c *cli) accountPasswordCommand() *cobra.Command {
	cmd := command("password ADDRESS", "Give an account another password", 1, 1, nil)
	fromStdin := passwordFlag(cmd)
	cram := cmd.Flags().Bool("cram-md5", false, "let it also log in by CRAM-MD5, for old programs: its secret is stored then")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		address, err := addressArgument(args[0])
		if err != nil {
			return err
		}
		password, made, err := c.takePassword(*fromStdin)
		if err != nil {
			return err
		}
		change := passwordChange{Address: address}
		if change.Verifier, err = c.verifierLike(cmd.Context(), address, password); err != nil {
			return err
		}
		if *cram {
			if change.CRAM, err = auth.NewCRAMSecret(password); err != nil {
				return usagef("%w", err)
			}
		}
		changed := accountWithPassword{Password: made}
		if err := c.ask(cmd.Context(), "account.password", change, &changed.Account); err != nil {
			return err
		}
		return c.print(changed, changed.text("has a new password"))
	}
	return cmd
}

// verifierLike makes the verifier of a password with the salt that the account
// has, so that its app passwords go on with SCRAM.
func (c *cli) verifierLike(ctx context.Context, address, password string) (storage.Verifier, error) {
	var salt storage.Verifier
	if err := c.ask(ctx, "account.salt", named{Name: address}, &salt); err != nil {
		return storage.Verifier{}, err
	}
	v, err := auth.NewVerifierLike(password, salt)
	if err != nil {
		err = usagef("%w", err)
	}
	return v, err
}

func (c *cli) appPasswordCommand() *cobra.Command {
	app := group("app-password", "Further passwords of an account, each for one program")
	app.AddCommand(
		c.appPasswordAddCommand(),
		command("list ADDRESS", "List the app passwords of an account", 1, 1, c.appPasswordList),
		command("remove ADDRESS NAME", "Take an app password away", 2, 2, c.appPasswordRemove),
	)
	return app
}

// appPassword is one as it goes over the socket and is printed.
type appPassword struct {
	Address  string           `json:"address"`
	Name     string           `json:"name"`
	Scope    string           `json:"scope,omitempty"`
	Created  time.Time        `json:"created,omitzero"`
	Password string           `json:"password,omitempty"` // printed once, never sent
	Verifier storage.Verifier `json:"verifier,omitzero"`  // sent, never printed
}

var scopes = []string{string(auth.ServiceSubmission), string(auth.ServiceIMAP), string(auth.ServiceSQL), string(auth.ServiceWeb)}

func (c *cli) appPasswordAddCommand() *cobra.Command {
	cmd := command("add ADDRESS NAME", "Give an account a further password for one program", 2, 2, nil)
	fromStdin := passwordFlag(cmd)
	scope := cmd.Flags().String("scope", "", "what it is good for: "+strings.Join(scopes, ", ")+"; without it, all")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		address, err := addressArgument(args[0])
		if err != nil {
			return err
		}
		if *scope != "" && !slices.Contains(scopes, *scope) {
			return usageOf(cmd, fmt.Errorf("--scope is one of %s", strings.Join(scopes, ", ")))
		}
		password, made, err := c.takePassword(*fromStdin)
		if err != nil {
			return err
		}
		in := appPassword{Address: address, Name: args[1], Scope: *scope}
		if in.Verifier, err = c.verifierLike(cmd.Context(), address, password); err != nil {
			return err
		}
		var out appPassword
		if err := c.ask(cmd.Context(), "password.add", in, &out); err != nil {
			return err
		}
		out.Password = made
		return c.print(out, func(w io.Writer) {
			fmt.Fprintf(w, "%s has an app password %q\n", out.Address, out.Name)
			if made != "" {
				fmt.Fprintf(w, "password (shown only now): %s\n", made)
			}
		})
	}
	return cmd
}

func (c *cli) appPasswordList(cmd *cobra.Command, args []string) error {
	address, err := addressArgument(args[0])
	if err != nil {
		return err
	}
	list := []storage.AppPassword{}
	if err := c.ask(cmd.Context(), "password.list", named{Name: address}, &list); err != nil {
		return err
	}
	return c.print(list, func(w io.Writer) {
		for _, p := range list {
			scope := p.Scope
			if scope == "" {
				scope = "all"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name, scope, p.Created.Format(time.DateOnly))
		}
	})
}

func (c *cli) appPasswordRemove(cmd *cobra.Command, args []string) error {
	address, err := addressArgument(args[0])
	if err != nil {
		return err
	}
	var out removed
	if err := c.ask(cmd.Context(), "password.remove", appPassword{Address: address, Name: args[1]}, &out); err != nil {
		return err
	}
	return c.print(out, line("%s is removed", out.Removed))
}

func (n *node) setPassword(ctx context.Context, in passwordChange) (storage.Account, error) {
	var err error
	if len(in.CRAM) > 0 {
		err = n.store.SetPasswordCRAM(ctx, in.Address, in.Verifier, in.CRAM)
	} else {
		err = n.store.SetPassword(ctx, in.Address, in.Verifier)
	}
	if err != nil {
		return storage.Account{}, err
	}
	account, err := n.store.AccountByAddress(ctx, in.Address)
	if err != nil {
		return account, err
	}
	return account, n.endWebSessions(ctx, account.ID)
}

// endWebSessions logs all browsers of an account out.
func (n *node) endWebSessions(ctx context.Context, account int64) error {
	sessions, err := n.store.WebSessions(ctx, account)
	if err != nil || len(sessions) == 0 {
		return err
	}
	return n.store.EndWebSessions(ctx, account, 0)
}

// saltOf returns what a client is told at the beginning of SCRAM: no secret.
func (n *node) saltOf(ctx context.Context, in named) (storage.Verifier, error) {
	if _, err := n.store.AccountByAddress(ctx, in.Name); err != nil {
		return storage.Verifier{}, err
	}
	cred, err := n.store.Credentials(ctx, in.Name)
	return storage.Verifier{Salt: cred.Verifier.Salt, Iterations: cred.Verifier.Iterations}, err
}

func (n *node) addAppPassword(ctx context.Context, in appPassword) (appPassword, error) {
	err := n.store.AddAppPassword(ctx, in.Address, in.Name, in.Scope, in.Verifier)
	return appPassword{Address: in.Address, Name: in.Name, Scope: in.Scope}, err
}

func (n *node) listAppPasswords(ctx context.Context, in named) ([]storage.AppPassword, error) {
	if _, err := n.store.AccountByAddress(ctx, in.Name); err != nil {
		return nil, err
	}
	cred, err := n.store.Credentials(ctx, in.Name)
	return append([]storage.AppPassword{}, cred.AppPasswords...), err
}

func (n *node) removeAppPassword(ctx context.Context, in appPassword) (removed, error) {
	return removed{Removed: in.Name}, n.store.RemoveAppPassword(ctx, in.Address, in.Name)
}
