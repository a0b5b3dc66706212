package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"trivet/storage"
	"trivet/web/admin"
)

// administration does for the web what the control socket does for commands.
type administration struct {
	node       *node
	operations map[string]operation
}

// mountAdministration puts the administration on the web.
func (n *node) mountAdministration() error {
	_, err := admin.New(n.shell, administration{n, n.operations()}, n.store, n.now)
	return err
}

// Operate implements [admin.Operations].
func (a administration) Operate(ctx context.Context, by storage.Account, name string, in, out any) error {
	do, known := a.operations[name]
	if !known {
		return &storage.Error{Op: name, Kind: storage.KindInternal, Err: fmt.Errorf("there is no such operation")}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	result, err := do(withActor(ctx, by.Address), body)
	a.node.noteChange(by.Address, name, subjectOf(body), err)
	if err != nil {
		return err
	}
	answer, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if _, forms := out.(*map[string]any); forms && (len(answer) == 0 || answer[0] != '{') {
		return nil // a list, or nothing: the form shows none
	}
	return json.Unmarshal(answer, out)
}

// administratorChange is what the command sends.
type administratorChange struct {
	Domain  string `json:"domain"`
	Address string `json:"address"`
	Remove  bool   `json:"remove,omitempty"`
}

// administrators is what it prints.
type administrators struct {
	Domain         string   `json:"domain"`
	Administrators []string `json:"administrators"`
}

func (c *cli) domainAdministratorCommand() *cobra.Command {
	cmd := command("administrator DOMAIN [ADDRESS]", "Show who administers a domain, or have an account administer it", 1, 2, nil)
	remove := cmd.Flags().Bool("remove", false, "no longer")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in := administratorChange{Remove: *remove}
		domain, err := domainArgument(args[0])
		if err != nil {
			return err
		}
		in.Domain = domain.Name
		if len(args) > 1 {
			in.Address = args[1]
		} else if *remove {
			return usagef("say whom to remove")
		}
		var out administrators
		if err := c.ask(cmd.Context(), "domain.administrator", in, &out); err != nil {
			return err
		}
		return c.print(out, line("%s", strings.Join(out.Administrators, "\n")))
	}
	return cmd
}

func (n *node) setAdministrator(ctx context.Context, in administratorChange) (administrators, error) {
	if _, err := n.domain(ctx, in.Domain); err != nil {
		return administrators{}, err
	}
	if in.Address != "" {
		if err := n.store.SetDomainAdministrator(ctx, in.Domain, in.Address, in.Remove); err != nil {
			return administrators{}, err
		}
	}
	who, err := n.store.DomainAdministrators(ctx, in.Domain)
	return administrators{in.Domain, append([]string{}, who...)}, err
}
