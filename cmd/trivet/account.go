package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"trivet/storage"
)

func (c *cli) accountCommand() *cobra.Command {
	account := group("account", "People who have mailboxes and can log in")
	account.AddCommand(
		c.accountAddCommand(),
		command("list", "List the accounts", 0, 0, c.accountList),
		command("remove ADDRESS", "Remove an account with all its mail", 1, 1, c.accountRemove),
		c.accountPasswordCommand(),
		c.appPasswordCommand(),
		c.factorCommand(),
		c.accountDisableCommand(),
		c.accountQuotaCommand(),
		c.accountLimitCommand(),
	)
	return account
}

// addressArgument checks an address before anybody is asked.
func addressArgument(address string) (string, error) {
	local, domain, err := storage.CanonicalAddress(address)
	if err != nil {
		return "", &usageError{err}
	}
	return local + "@" + domain, nil
}

// accountWithPassword is an account whose password was made up: the one time it is shown.
type accountWithPassword struct {
	storage.Account
	Password string `json:"password,omitempty"`
}

func (a accountWithPassword) text(what string) func(io.Writer) {
	return func(w io.Writer) {
		fmt.Fprintf(w, "%s %s\n", a.Address, what)
		if a.Password != "" {
			fmt.Fprintf(w, "password (shown only now): %s\n", a.Password)
		}
	}
}

func (c *cli) accountAddCommand() *cobra.Command {
	var account storage.NewAccount
	var quota size
	cmd := command("add ADDRESS", "Make an account with its mailboxes", 1, 1, nil)
	fromStdin := passwordFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&account.Name, "name", "", "display name")
	flags.BoolVar(&account.Admin, "admin", false, "may administer this system")
	flags.BoolVar(&account.Service, "service", false, "for a program: no mailboxes, gets no mail, logs in for SQL only")
	flags.Var(&quota, "quota", "octets of mail the account may keep; 0: any number")
	flags.Int64Var(&account.QuotaMessages, "quota-messages", 0, "messages the account may keep; 0: any number")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if account.Address, err = addressArgument(args[0]); err != nil {
			return err
		}
		if account.QuotaMessages < 0 {
			return usageOf(cmd, fmt.Errorf("--quota-messages is 0 or more"))
		}
		if account.Service && (account.Admin || quota != 0 || account.QuotaMessages != 0) {
			return usageOf(cmd, fmt.Errorf("--service has no mail, and is no administrator"))
		}
		account.QuotaBytes = int64(quota)
		var made accountWithPassword
		if account.Verifier, made.Password, err = c.choosePassword(*fromStdin); err != nil {
			return err
		}
		if err := c.ask(cmd.Context(), "account.add", account, &made.Account); err != nil {
			return err
		}
		return c.print(made, made.text("has an account"))
	}
	return cmd
}

func (c *cli) accountList(cmd *cobra.Command, _ []string) error {
	accounts := []storage.Account{}
	if err := c.ask(cmd.Context(), "account.list", nothing{}, &accounts); err != nil {
		return err
	}
	return c.print(accounts, func(w io.Writer) {
		fmt.Fprintln(w, "ADDRESS\tMESSAGES\tSIZE\tQUOTA\tNOTES")
		for _, a := range accounts {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", a.Address, a.UsedMessages, size(a.UsedBytes).about(), quotaOf(a), notes(a))
		}
	})
}

func quotaOf(a storage.Account) string {
	bytes, messages := "any size", "any number"
	if a.QuotaBytes > 0 {
		bytes = size(a.QuotaBytes).about()
	}
	if a.QuotaMessages > 0 {
		messages = fmt.Sprint(a.QuotaMessages)
	}
	return bytes + ", " + messages
}

func notes(a storage.Account) string {
	text := a.Name
	for _, note := range []struct {
		holds bool
		text  string
	}{{a.Admin, "(administrator)"}, {a.Service, "(service)"}, {a.Disabled, "(disabled)"}} {
		if note.holds {
			text += " " + note.text
		}
	}
	return text
}

func (c *cli) accountRemove(cmd *cobra.Command, args []string) error {
	address, err := addressArgument(args[0])
	if err != nil {
		return err
	}
	return c.remove(cmd, "account.remove", named{Name: address})
}

func (c *cli) accountDisableCommand() *cobra.Command {
	cmd := command("disable ADDRESS", "Forbid an account to log in; it still gets mail", 1, 1, nil)
	undo := cmd.Flags().Bool("undo", false, "allow it again")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		address, err := addressArgument(args[0])
		if err != nil {
			return err
		}
		var account storage.Account
		if err := c.ask(cmd.Context(), "account.disable", disableChange{address, !*undo}, &account); err != nil {
			return err
		}
		if account.Disabled {
			return c.print(account, line("%s may not log in", account.Address))
		}
		return c.print(account, line("%s may log in", account.Address))
	}
	return cmd
}

func (c *cli) accountQuotaCommand() *cobra.Command {
	cmd := command("quota ADDRESS", "Limit the mail of an account, or show its limits", 1, 1, nil)
	var octets size
	flags := cmd.Flags()
	flags.Var(&octets, "size", "octets of mail the account may keep; 0: any number")
	messages := flags.Int64("messages", 0, "messages the account may keep; 0: any number")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		address, err := addressArgument(args[0])
		if err != nil {
			return err
		}
		change := quotaChange{Address: address}
		if flags.Changed("size") {
			change.Bytes = (*int64)(&octets)
		}
		if flags.Changed("messages") {
			if change.Messages = messages; *messages < 0 {
				return usageOf(cmd, fmt.Errorf("--messages is 0 or more"))
			}
		}
		var account storage.Account
		if err := c.ask(cmd.Context(), "account.quota", change, &account); err != nil {
			return err
		}
		return c.print(account, line("%s has %d messages of %s and may have %s", account.Address, account.UsedMessages,
			size(account.UsedBytes).about(), quotaOf(account)))
	}
	return cmd
}
