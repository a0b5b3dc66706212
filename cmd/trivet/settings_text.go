package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"trivet/storage"
)

// settingsText is the replicated settings as text: what 'trivet settings export' writes and 'apply' reads. There is
// no secret in it, so it cannot make accounts; of those there are it can change what is said here.
type settingsText struct {
	Domains   map[string]settingsDomain   `toml:"domain,omitempty" comment:"What becomes of addresses that nobody has, and who administers the domain."`
	Accounts  map[string]settingsAccount  `toml:"account,omitempty" comment:"Accounts that there are; 'trivet account add' makes others, because a password is needed."`
	Aliases   map[string][]string         `toml:"alias,omitempty"`
	Groups    map[string]settingsGroup    `toml:"group,omitempty"`
	Forwards  map[string]settingsForward  `toml:"forward,omitempty"`
	Spam      map[string]settingsSpam     `toml:"spam,omitempty" comment:"For the host (*), a domain or an account: from which probability on mail goes to Junk, is deferred or refused; 0 leaves it to the wider one."`
	Databases map[string]settingsDatabase `toml:"database,omitempty"`
}

type (
	settingsDomain struct {
		AliasOf        string   `toml:"alias_of"`
		Delimiter      string   `toml:"delimiter"`
		CatchAll       string   `toml:"catch_all"`
		Administrators []string `toml:"administrators"`
	}
	settingsAccount struct {
		Disabled      bool  `toml:"disabled"`
		QuotaBytes    int64 `toml:"quota_bytes"`
		QuotaMessages int64 `toml:"quota_messages"`
	}
	settingsGroup struct {
		Name    string   `toml:"name"`
		Owner   string   `toml:"owner"`
		Senders string   `toml:"senders"`
		SendAs  bool     `toml:"send_as"`
		Members []string `toml:"members"`
		Listed  []string `toml:"listed"`
	}
	settingsForward struct {
		Targets []string `toml:"targets"`
		Keep    bool     `toml:"keep"`
	}
	settingsSpam struct {
		Mode   string  `toml:"mode"`
		Junk   float64 `toml:"junk"`
		Defer  float64 `toml:"defer"`
		Reject float64 `toml:"reject"`
	}
	settingsDatabase struct {
		Owner  string            `toml:"owner"`
		Quota  int64             `toml:"quota_bytes"`
		Grants map[string]string `toml:"grants"`
	}
)

// settingsStep is one change that brings the state to the text.
type settingsStep struct {
	Change    string          `json:"change"` // for people
	Operation string          `json:"operation"`
	Input     json.RawMessage `json:"-"`
}

type (
	settingsApplication struct {
		Text string `json:"text"`
	}
	settingsApplied struct {
		Changes []settingsStep `json:"changes"`
		DryRun  bool           `json:"dry_run"`
	}
	settingsExported struct {
		Text string `json:"text"`
	}
)

func (c *cli) settingsCommand() *cobra.Command {
	export := command("export", "Print the settings of the cluster as text, without any secret", 0, 0, func(cmd *cobra.Command, _ []string) error {
		var out settingsExported
		if err := c.ask(cmd.Context(), "settings.list", nothing{}, &out); err != nil {
			return err
		}
		return c.print(out, line("%s", strings.TrimRight(out.Text, "\n")))
	})
	apply := command("apply FILE", "Bring the settings of the cluster to what a text says; - is standard input", 1, 1, nil)
	dryRun := apply.Flags().Bool("dry-run", false, "only say what would be changed")
	apply.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := readSettingsText(cmd.InOrStdin(), args[0])
		if err != nil {
			return err
		}
		operation := "settings.apply"
		if *dryRun {
			operation = "settings.try"
		}
		var out settingsApplied
		if err := c.ask(cmd.Context(), operation, settingsApplication{string(text)}, &out); err != nil {
			return err
		}
		return c.print(out, out.text)
	}
	cmd := group("settings", "Write the settings of the cluster to a text, and apply one")
	cmd.AddCommand(export, apply)
	return cmd
}

// readSettingsText reads at most what the control socket takes.
func readSettingsText(stdin io.Reader, name string) ([]byte, error) {
	from := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	return io.ReadAll(io.LimitReader(from, maxControlRequest))
}

func (a settingsApplied) text(w io.Writer) {
	for _, s := range a.Changes {
		fmt.Fprintln(w, s.Change)
	}
	switch {
	case len(a.Changes) == 0:
		fmt.Fprintln(w, "everything is as the text says")
	case a.DryRun:
		fmt.Fprintln(w, "nothing was changed: run it without --dry-run")
	}
}

func (n *node) settingsOperations() map[string]operation {
	return map[string]operation{
		"settings.list":  operationOf(n.exportSettings),
		"settings.try":   operationOf(n.trySettings),
		"settings.apply": operationOf(n.applySettings),
	}
}

func (n *node) exportSettings(ctx context.Context, _ nothing) (settingsExported, error) {
	now, err := n.settingsNow(ctx)
	if err != nil {
		return settingsExported{}, err
	}
	var b bytes.Buffer
	b.WriteString("# The settings of the cluster. 'trivet settings apply FILE' brings them to what is said here; what is left out stays as it is.\n\n")
	err = toml.NewEncoder(&b).Encode(now)
	return settingsExported{b.String()}, err
}

// settingsNow reads the settings as they are.
func (n *node) settingsNow(ctx context.Context) (s settingsText, err error) {
	s = settingsText{map[string]settingsDomain{}, map[string]settingsAccount{}, map[string][]string{}, map[string]settingsGroup{}, map[string]settingsForward{}, map[string]settingsSpam{}, map[string]settingsDatabase{}}
	domains, err := n.store.Domains(ctx)
	if err != nil {
		return s, err
	}
	for _, d := range domains {
		who, err := n.store.DomainAdministrators(ctx, d.Name)
		if err != nil {
			return s, err
		}
		s.Domains[d.Name] = settingsDomain{d.AliasOf, d.Delimiter, d.CatchAll, append([]string{}, who...)}
	}
	accounts, err := n.store.Accounts(ctx)
	if err != nil {
		return s, err
	}
	for _, a := range accounts {
		s.Accounts[a.Address] = settingsAccount{a.Disabled, a.QuotaBytes, a.QuotaMessages}
	}
	return s, n.addressesNow(ctx, s)
}

func (n *node) addressesNow(ctx context.Context, s settingsText) error {
	aliases, err := n.store.Aliases(ctx)
	if err != nil {
		return err
	}
	for _, a := range aliases {
		s.Aliases[a.Address] = a.Targets
	}
	groups, err := n.store.Groups(ctx)
	if err != nil {
		return err
	}
	for _, g := range groups {
		s.Groups[g.Address] = settingsGroup{g.Name, g.Owner, g.Senders.String(), g.SendAs, append([]string{}, g.Members...), append([]string{}, g.Listed...)}
	}
	forwards, err := n.store.Forwards(ctx)
	if err != nil {
		return err
	}
	for _, f := range forwards {
		s.Forwards[f.Address] = settingsForward{f.Targets, f.Keep}
	}
	policies, err := n.store.SpamPolicies(ctx)
	if err != nil {
		return err
	}
	for _, p := range policies {
		s.Spam[p.Scope] = settingsSpam{p.Mode, p.Junk, p.Defer, p.Reject}
	}
	databases, err := n.store.Databases(ctx, false)
	for _, d := range databases {
		text := settingsDatabase{d.Owner, d.Quota, map[string]string{}}
		for _, g := range d.Grants {
			text.Grants[g.Address] = g.Privilege
		}
		s.Databases[d.Name] = text
	}
	return err
}

// trySettings says what applySettings would do.
func (n *node) trySettings(ctx context.Context, in settingsApplication) (settingsApplied, error) {
	steps, err := n.settingsSteps(ctx, in.Text)
	return settingsApplied{Changes: append([]settingsStep{}, steps...), DryRun: true}, err
}

// applySettings does what is needed, one operation after the other, those first that others need. It stops at the first that is
// refused; the text can be applied again. The journal has each of them.
func (n *node) applySettings(ctx context.Context, in settingsApplication) (settingsApplied, error) {
	out := settingsApplied{Changes: []settingsStep{}}
	steps, err := n.settingsSteps(ctx, in.Text)
	if err != nil {
		return out, err
	}
	operations := n.operations()
	for _, s := range steps {
		_, err := operations[s.Operation](ctx, s.Input)
		n.noteChange(actor(ctx), s.Operation, subjectOf(s.Input), err)
		if err != nil {
			return out, &storage.Error{Op: "apply settings", Kind: storage.KindOf(err), Err: fmt.Errorf("after %d changes, %s: %w", len(out.Changes), s.Change, err), Hint: "mend the text and apply it again"}
		}
		out.Changes = append(out.Changes, s)
	}
	return out, nil
}

// settingsSteps reads a text, and works out what it takes to get there.
func (n *node) settingsSteps(ctx context.Context, text string) ([]settingsStep, error) {
	var wanted settingsText
	d := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields()
	if err := d.Decode(&wanted); err != nil {
		return nil, &storage.Error{Op: "apply settings", Kind: storage.KindInvalid, Err: settingsProblem(err), Hint: "see 'trivet settings export' for what there is"}
	}
	now, err := n.settingsNow(ctx)
	if err != nil {
		return nil, err
	}
	return stepsBetween(now, wanted)
}

// settingsProblem says where a text is wrong.
func settingsProblem(err error) error {
	switch e := err.(type) {
	case *toml.DecodeError:
		row, column := e.Position()
		return fmt.Errorf("line %d, column %d: %s", row, column, e.Error())
	case *toml.StrictMissingError:
		return fmt.Errorf("it says what there is not:\n%s", e.String())
	}
	return err
}

// stepsBetween are the changes from one to the other, in an order in which they work.
func stepsBetween(now, wanted settingsText) (steps []settingsStep, err error) {
	step := func(operation string, in any, format string, args ...any) {
		input, marshalErr := json.Marshal(in)
		if err == nil {
			err = marshalErr
		}
		steps = append(steps, settingsStep{fmt.Sprintf(format, args...), operation, input})
	}
	for name, d := range sorted(wanted.Domains) {
		old, there := now.Domains[name]
		if !there {
			step("domain.add", named{name}, "host %s", name)
			old.Delimiter = storage.DefaultDelimiter
		}
		if d.AliasOf != old.AliasOf || d.Delimiter != old.Delimiter || d.CatchAll != old.CatchAll {
			step("domain.set", domainChange{name, &d.AliasOf, &d.Delimiter, &d.CatchAll}, "set what becomes of unknown addresses of %s", name)
		}
		for address, remove := range differences(old.Administrators, d.Administrators) {
			step("domain.administrator", administratorChange{name, address, remove}, "%s %s %s", address, map[bool]string{false: "administers", true: "no longer administers"}[remove], name)
		}
	}
	for address, a := range sorted(wanted.Accounts) {
		old, there := now.Accounts[address]
		if !there {
			return nil, &storage.Error{Op: "apply settings", Kind: storage.KindNotFound, Err: fmt.Errorf("there is no account %s", address),
				Hint: fmt.Sprintf("make it with 'trivet account add %s'", address)}
		}
		if a.Disabled != old.Disabled {
			step("account.disable", disableChange{address, a.Disabled}, "let %s %s", address, map[bool]string{false: "log in", true: "not log in"}[a.Disabled])
		}
		if a.QuotaBytes != old.QuotaBytes || a.QuotaMessages != old.QuotaMessages {
			step("account.quota", quotaChange{address, &a.QuotaBytes, &a.QuotaMessages}, "set the quota of %s to %d octets, %d messages", address, a.QuotaBytes, a.QuotaMessages)
		}
	}
	for address, targets := range sorted(wanted.Aliases) {
		old, there := now.Aliases[address]
		if sameNames(old, targets) {
			continue
		}
		if there {
			step("alias.remove", named{address}, "take the alias %s away", address)
		}
		step("alias.add", aliasChange{address, targets}, "lead %s to %s", address, strings.Join(targets, ", "))
	}
	return append(steps, laterSteps(now, wanted, &err)...), err
}

// laterSteps are those that need accounts and domains.
func laterSteps(now, wanted settingsText, err *error) (steps []settingsStep) {
	step := func(operation string, in any, format string, args ...any) {
		input, marshalErr := json.Marshal(in)
		if *err == nil {
			*err = marshalErr
		}
		steps = append(steps, settingsStep{fmt.Sprintf(format, args...), operation, input})
	}
	for address, g := range sorted(wanted.Groups) {
		old, there := now.Groups[address]
		if old.same(g) {
			continue
		}
		operation := map[bool]string{false: "group.add", true: "group.set"}[there]
		step(operation, map[string]any{"address": address, "name": g.Name, "owner": g.Owner, "senders": g.Senders, "send_as": g.SendAs, "members": g.Members, "listed": g.Listed}, "set the group %s", address)
	}
	for address, f := range sorted(wanted.Forwards) {
		if old := now.Forwards[address]; old.Keep != f.Keep || !sameNames(old.Targets, f.Targets) {
			step("forward.set", storage.Forward{Address: address, Targets: f.Targets, Keep: f.Keep}, "forward the mail of %s to %s", address, strings.Join(f.Targets, ", "))
		}
	}
	for scope, p := range sorted(wanted.Spam) {
		if now.Spam[scope] != p {
			in := spamPolicyChange{Scope: scope, Junk: &p.Junk, Defer: &p.Defer, Reject: &p.Reject}
			if p.Mode != "" {
				in.Mode = &p.Mode
			}
			step("spam.policy", in, "set what becomes of unwanted mail for %s", scope)
		}
	}
	for name, d := range sorted(wanted.Databases) {
		old, there := now.Databases[name]
		if !there {
			step("database.create", newDatabase{Name: name, Owner: d.Owner, Quota: d.Quota}, "create the database %s", name)
		} else if d.Quota != old.Quota {
			step("database.quota", databaseQuota{Name: name, Quota: d.Quota}, "set the quota of the database %s to %d octets", name, d.Quota)
		}
		for address, privilege := range sorted(d.Grants) {
			if old.Grants[address] != privilege {
				step("database.grant", databaseGrant{Name: name, Address: address, Privilege: privilege}, "grant %s: %s on %s", address, privilege, name)
			}
		}
	}
	return steps
}

func (g settingsGroup) same(h settingsGroup) bool {
	return g.Name == h.Name && g.Owner == h.Owner && g.Senders == h.Senders && g.SendAs == h.SendAs && sameNames(g.Members, h.Members) && sameNames(g.Listed, h.Listed)
}

// sameNames compares lists whose order means nothing.
func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// sorted goes through a map in the order of its keys.
func sorted[V any](m map[string]V) func(yield func(string, V) bool) {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// differences are the names that one list lacks (false) and those that it alone has (true).
func differences(now, wanted []string) func(yield func(string, bool) bool) {
	return func(yield func(string, bool) bool) {
		for _, name := range wanted {
			if !slices.Contains(now, name) && !yield(name, false) {
				return
			}
		}
		for _, name := range now {
			if !slices.Contains(wanted, name) && !yield(name, true) {
				return
			}
		}
	}
}
