package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	senders "trivet/spam/sender"
	"trivet/storage"
)

// spamSenderCommands are those for what judges mail by who brings it.
func (c *cli) spamSenderCommands() []*cobra.Command {
	dnsbl := group("dnsbl", "Block lists in DNS; none is asked unless it is added")
	dnsbl.AddCommand(
		c.dnsblAddCommand(),
		command("list", "List the block lists that are asked", 0, 0, c.dnsblList),
		command("remove ZONE", "Do not ask a list any more", 1, 1, c.dnsblRemove),
		command("check ZONE", "See whether a list answers this host as lists do", 1, 1, c.dnsblCheck),
	)
	return []*cobra.Command{dnsbl, c.spamSettingsCommand(), c.greylistCommand(), c.reputationCommand(),
		c.challengeCommand(), c.keptCommand(), c.digestCommand()}
}

// spamSettingsChange is what the command sends: what is nil stays as it is.
type spamSettingsChange struct {
	Greylist      *bool             `json:"greylist,omitempty"`
	Delay         *senders.Duration `json:"delay,omitempty"`
	Window        *senders.Duration `json:"window,omitempty"`
	Keep          *senders.Duration `json:"keep,omitempty"`
	Good          *[]netip.Prefix   `json:"good,omitempty"`
	Local         *[]netip.Prefix   `json:"local,omitempty"`
	Rate          *int              `json:"rate,omitempty"`
	Clamd         *string           `json:"clamd,omitempty"`
	Rspamd        *string           `json:"rspamd,omitempty"`
	ChallengeFrom *float64          `json:"challenge_from,omitempty"`
	ChallengeKeep *senders.Duration `json:"challenge_keep,omitempty"`
	AddList       *senders.List     `json:"add_list,omitempty"`
	RemoveList    string            `json:"remove_list,omitempty"`
}

func (in spamSettingsChange) apply(s *senders.Settings) error {
	if in.Greylist != nil {
		s.Greylist.Off = !*in.Greylist
	}
	set(&s.Greylist.Delay, in.Delay)
	set(&s.Greylist.Window, in.Window)
	set(&s.Greylist.Keep, in.Keep)
	set(&s.Greylist.Good, in.Good)
	set(&s.Local, in.Local)
	set(&s.Rate, in.Rate)
	set(&s.Clamd, in.Clamd)
	set(&s.Rspamd, in.Rspamd)
	set(&s.Challenge.From, in.ChallengeFrom)
	set(&s.Challenge.Keep, in.ChallengeKeep)
	named := func(zone string) func(senders.List) bool { return func(l senders.List) bool { return l.Zone == zone } }
	if in.AddList != nil {
		s.Lists = append(slices.DeleteFunc(s.Lists, named(in.AddList.Zone)), *in.AddList)
	}
	if in.RemoveList != "" {
		before := len(s.Lists)
		if s.Lists = slices.DeleteFunc(s.Lists, named(in.RemoveList)); len(s.Lists) == before {
			return &storage.Error{Op: "remove the list " + in.RemoveList, Kind: storage.KindNotFound, Hint: "see 'trivet spam dnsbl list'"}
		}
	}
	return nil
}

// networksFlag is a list of networks.
type networksFlag struct{ list []netip.Prefix }

func (f *networksFlag) Set(s string) (err error) {
	f.list, err = senders.ParseNetworks(s)
	return err
}
func (f *networksFlag) String() string { return "" }
func (*networksFlag) Type() string     { return "NETWORKS" }

func (c *cli) spamSettingsCommand() *cobra.Command {
	cmd := command("settings", "Show or set how mail is judged by who brings it, on all nodes", 0, 0, nil)
	flags := cmd.Flags()
	var grey toggle
	var delay, window, keep, copies duration
	var good, local networksFlag
	flags.Var(&grey, "greylist", "put off first contacts that look wrong: on or off")
	flags.Var(&delay, "greylist-delay", "time after which such a contact may come again")
	flags.Var(&window, "greylist-window", "time until which it must have")
	flags.Var(&keep, "greylist-keep", "time for which it is remembered that one did")
	flags.Var(&good, "greylist-good", "networks that are never put off, with commas between; none")
	flags.Var(&local, "local", "networks whose hosts have no public names, so that these are not asked for; none")
	rate := flags.Int("rate", 0, "messages from a network in 10 minutes from which it counts against it; 0: never")
	clamd := flags.String("clamd", "", "where clamd of ClamAV listens: the path of a socket, or HOST:PORT; none")
	rspamd := flags.String("rspamd", "", "where rspamd listens: http://HOST:PORT; none")
	from := flags.Float64("challenge-from", 0, "probability from which senders are asked whether a person wrote, 0 to 1")
	flags.Var(&copies, "challenge-keep", "time for which a copy is kept for the answer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var in spamSettingsChange
		given := flags.Changed
		time := func(name string, d *duration, to **senders.Duration) {
			if given(name) {
				*to = (*senders.Duration)(d)
			}
		}
		time("greylist-delay", &delay, &in.Delay)
		time("greylist-window", &window, &in.Window)
		time("greylist-keep", &keep, &in.Keep)
		time("challenge-keep", &copies, &in.ChallengeKeep)
		if given("greylist") {
			in.Greylist = (*bool)(&grey)
		}
		if given("greylist-good") {
			in.Good = &good.list
		}
		if given("local") {
			in.Local = &local.list
		}
		if given("rate") {
			in.Rate = rate
		}
		if given("challenge-from") {
			in.ChallengeFrom = from
		}
		for name, f := range map[string]struct{ from, to **string }{"clamd": {&clamd, &in.Clamd}, "rspamd": {&rspamd, &in.Rspamd}} {
			if given(name) {
				if **f.from == "none" {
					**f.from = ""
				}
				*f.to = *f.from
			}
		}
		var out senders.Settings
		if err := c.ask(cmd.Context(), "spam.settings", in, &out); err != nil {
			return err
		}
		return c.print(out, func(w io.Writer) { printSpamSettings(w, out) })
	}
	return cmd
}

func printSpamSettings(w io.Writer, s senders.Settings) {
	list := func(networks []netip.Prefix) string {
		if len(networks) == 0 {
			return "none"
		}
		var words []string
		for _, n := range networks {
			words = append(words, n.String())
		}
		return strings.Join(words, ",")
	}
	orNone := func(s string) string {
		if s == "" {
			return "none"
		}
		return s
	}
	grey := toggle(!s.Greylist.Off)
	for _, line := range [][2]string{{"greylist", grey.String()}, {"greylist-delay", s.Greylist.Delay.String()}, {"greylist-window", s.Greylist.Window.String()},
		{"greylist-keep", s.Greylist.Keep.String()}, {"greylist-good", list(s.Greylist.Good)}, {"local", list(s.Local)}, {"rate", strconv.Itoa(s.Rate)},
		{"clamd", orNone(s.Clamd)}, {"rspamd", orNone(s.Rspamd)}, {"challenge-from", fmt.Sprint(s.Challenge.From)}, {"challenge-keep", s.Challenge.Keep.String()}} {
		fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
	}
	printLists(w, s.Lists)
}

func printLists(w io.Writer, lists []senders.List) {
	for _, l := range lists {
		codes := ""
		for _, code := range sortedKeys(l.Codes) {
			codes += fmt.Sprintf(" %s=%g", code, l.Codes[code])
		}
		fmt.Fprintf(w, "list %s\t%s\t%g points%s\n", l.Zone, l.Kind, l.Points, codes)
	}
}

func sortedKeys(m map[string]float64) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (c *cli) dnsblAddCommand() *cobra.Command {
	cmd := command("add ZONE", "Ask a block list, or change what its answers are worth", 1, 1, nil)
	domains := cmd.Flags().Bool("domains", false, "it is a list of domains: the sender's, and those of links")
	points := cmd.Flags().Float64("points", senders.DefaultListPoints, "what an answer is worth, in log-odds")
	codes := cmd.Flags().StringSlice("code", nil, "what a certain answer is worth: 127.0.0.2=4, or a network of such, 127.0.1.0/24=1")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l := senders.List{Zone: strings.ToLower(strings.Trim(args[0], ".")), Kind: senders.ListAddresses, Points: *points}
		if *domains {
			l.Kind = senders.ListDomains
		}
		for _, text := range *codes {
			code, worth, found := strings.Cut(text, "=")
			p, err := strconv.ParseFloat(worth, 64)
			if !found || err != nil {
				return usageOf(cmd, fmt.Errorf("%q is not of the form 127.0.0.2=4", text))
			}
			if l.Codes == nil {
				l.Codes = map[string]float64{}
			}
			l.Codes[code] = p
		}
		var out senders.Settings
		if err := c.ask(cmd.Context(), "spam.settings", spamSettingsChange{AddList: &l}, &out); err != nil {
			return err
		}
		return c.print(l, func(w io.Writer) { printLists(w, []senders.List{l}) })
	}
	return cmd
}

func (c *cli) dnsblList(cmd *cobra.Command, _ []string) error {
	var out senders.Settings
	if err := c.ask(cmd.Context(), "spam.settings", spamSettingsChange{}, &out); err != nil {
		return err
	}
	return c.print(out.Lists, func(w io.Writer) { printLists(w, out.Lists) })
}

func (c *cli) dnsblRemove(cmd *cobra.Command, args []string) error {
	var out senders.Settings
	zone := strings.ToLower(strings.Trim(args[0], "."))
	if err := c.ask(cmd.Context(), "spam.settings", spamSettingsChange{RemoveList: zone}, &out); err != nil {
		return err
	}
	return c.print(removed{zone}, line("%s is not asked any more", zone))
}

// listChecked is whether a list answers as it should.
type listChecked struct {
	Zone    string `json:"zone"`
	OK      bool   `json:"ok"`
	Problem string `json:"problem,omitempty"`
}

func (c *cli) dnsblCheck(cmd *cobra.Command, args []string) error {
	var out listChecked
	if err := c.ask(cmd.Context(), "spam.dnsbl.check", named{Name: strings.ToLower(strings.Trim(args[0], "."))}, &out); err != nil {
		return err
	}
	err := c.print(out, func(w io.Writer) {
		if out.OK {
			fmt.Fprintf(w, "%s answers as it should\n", out.Zone)
			return
		}
		fmt.Fprintf(w, "%s: %s\n", out.Zone, out.Problem)
	})
	if err == nil && !out.OK {
		err = errListFails
	}
	return err
}

// errListFails makes the exit status tell of a problem that was printed.
var errListFails = errors.New("the list does not answer as lists do")

// checkList asks a list what every list has.
func (n *node) checkList(ctx context.Context, in named) (listChecked, error) {
	settings, err := n.spamSenders.read(ctx)
	if err != nil {
		return listChecked{}, err
	}
	l := senders.List{Zone: in.Name, Kind: senders.ListAddresses}
	for _, known := range settings.Lists {
		if known.Zone == in.Name {
			l = known
		}
	}
	problem := senders.ListTest(ctx, n.resolver, l)
	return listChecked{in.Name, problem == "", problem}, nil
}

// spamSenderOperations are what the control socket offers for these commands.
func (n *node) spamSenderOperations() map[string]operation {
	return map[string]operation{
		"spam.settings": operationOf(func(ctx context.Context, in spamSettingsChange) (senders.Settings, error) {
			if in == (spamSettingsChange{}) { // no change
				return n.spamSenders.read(ctx)
			}
			return n.setSpamSenders(ctx, in.apply)
		}),
		"spam.dnsbl.check": operationOf(n.checkList),
		"spam.greylist": operationOf(func(ctx context.Context, in limited) ([]storage.GreylistEntry, error) {
			return n.store.Greylist(ctx, in.Limit)
		}),
		"spam.reputation": operationOf(func(ctx context.Context, in limited) ([]storage.Reputation, error) {
			return n.store.ListReputations(ctx, in.Name, in.Limit)
		}),
		"spam.reputation.forget": operationOf(func(ctx context.Context, in named) (removed, error) {
			return removed{in.Name}, n.store.ForgetSender(ctx, in.Name)
		}),
		"spam.choice":  operationOf(n.setSpamChoice),
		"spam.choices": operationOf(func(ctx context.Context, _ nothing) ([]storage.SpamChoice, error) { return n.store.SpamChoices(ctx) }),
		"spam.digest":  operationOf(n.digestNow),
		"spam.kept":    operationOf(n.listKept),
		"spam.release": operationOf(func(ctx context.Context, in keptID) (keptID, error) { return in, n.store.ReleaseCopy(ctx, in.ID) }),
		"spam.drop":    operationOf(func(ctx context.Context, in keptID) (keptID, error) { return in, n.store.DropCopy(ctx, in.ID) }),
	}
}
