package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func standardStreams() streams {
	return streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}
}

// cli is one invocation: the streams and the common flags.
type cli struct {
	streams
	dir  dataDir
	json bool
	// release gives signals back to the operating system, so that a second one
	// ends a command that is busy ending.
	release func()
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, release func(), args []string, s streams) int {
	c := &cli{streams: s, release: release}
	root := c.rootCommand()
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintf(s.err, "trivet: %v\n", err)
	}
	return exitStatus(err)
}

// defaultDataDir is used without --data and TRIVET_DATA.
const defaultDataDir = "/var/lib/trivet"

func (c *cli) rootCommand() *cobra.Command {
	root := group("trivet", "Mail for a domain, in one binary")
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageOf(cmd, err) })
	flags := root.PersistentFlags()
	c.dir = dataDir(defaultDataDir)
	if env := os.Getenv("TRIVET_DATA"); env != "" {
		c.dir = dataDir(env)
	}
	flags.StringVar((*string)(&c.dir), "data", string(c.dir), "data folder; also TRIVET_DATA")
	flags.BoolVar(&c.json, "json", false, "print JSON")
	root.AddCommand(c.setupCommand(), c.serveCommand(), c.demoCommand(), c.domainCommand(), c.accountCommand(),
		c.aliasCommand(), c.groupCommand(), c.forwardCommand(), c.vacationCommand(), c.banCommand(), c.certificateCommand(), c.clusterCommand(), c.doctorCommand(), c.queueCommand(), c.traceCommand(), c.routeCommand(), c.verifyCommand(), c.versionCommand())
	root.AddCommand(c.databaseCommand(), c.sqlCommand())
	root.AddCommand(c.checkCommand(), c.senderCommand(), c.reportCommand(), c.spamCommand())
	root.AddCommand(c.importCommand(), c.exportCommand(), c.imapCommand(), c.settingsCommand())
	return root
}

// group is a command that only has others below it.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ArbitraryArgs, // so that RunE sees a wrong name, and can call it wrong use
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageOf(cmd, fmt.Errorf("unknown command %q", args[0]))
			}
			return usageOf(cmd, fmt.Errorf("a command is missing"))
		},
	}
}

// command is one that does something with between least and most arguments.
func command(use, short string, least, most int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.RangeArgs(least, most)(cmd, args); err != nil {
				return usageOf(cmd, err)
			}
			return nil
		},
		RunE: run,
	}
}

// unlimited is the most arguments of a command that takes any number.
const unlimited = 1 << 20
