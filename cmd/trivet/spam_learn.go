package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/spam"
	"trivet/storage"
)

// Limits of what is taught from files.
const (
	maxTaughtFile   = 64 << 20  // octets of one message
	maxTaughtOctets = 600 << 10 // of features in one request
	// taughtRoom is how many lessons may wait before the command waits for them.
	taughtRoom  = storage.MaxWaitingLessons - 2*storage.MaxLessonBatch
	taughtPause = 500 * time.Millisecond
)

// taught is what the command sends: features, so that messages stay where they are.
type taught struct {
	Address  string        `json:"address,omitempty"` // empty: the host's model learns
	Unwanted bool          `json:"unwanted"`
	Messages []taughtEntry `json:"messages"`
}

type taughtEntry struct {
	Hash     []byte `json:"hash"`
	Features []byte `json:"features"`
}

// taughtResult is what came of it.
type taughtResult struct {
	Queued  int   `json:"queued"`
	Waiting int64 `json:"waiting"` // lessons that are not learned yet
}

func (c *cli) spamLearnCommand() *cobra.Command {
	cmd := command("learn ham|spam FILE|DIR...", "Teach the filter wanted (ham) or unwanted (spam) mail: messages, mbox files, folders of these", 2, maxArguments, nil)
	account := cmd.Flags().String("account", "", "address of the account whose filter learns; without it the server's, which is for all")
	wait := cmd.Flags().Bool("wait", false, "return when all is learned")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		unwanted := args[0] == "spam"
		if !unwanted && args[0] != "ham" {
			return usageOf(cmd, fmt.Errorf("%q is neither ham nor spam", args[0]))
		}
		l := &lecture{cli: c, ctx: cmd.Context(), taught: taught{Address: *account, Unwanted: unwanted}}
		if err := c.ask(cmd.Context(), "spam.key", nothing{}, &l.key); err != nil {
			return err
		}
		for _, path := range args[1:] {
			if err := l.tree(path); err != nil {
				return err
			}
		}
		if err := l.send(); err != nil {
			return err
		}
		for *wait && l.out.Waiting > 0 {
			if err := l.pause(); err != nil {
				return err
			}
		}
		return c.print(l.out, line("%d messages taught as %s; %d wait to be learned", l.out.Queued, args[0], l.out.Waiting))
	}
	return cmd
}

// maxArguments is as many as a shell gives.
const maxArguments = 1 << 20

// lecture reads messages and sends what is found in them.
type lecture struct {
	*cli
	ctx context.Context
	key spam.Key
	taught
	octets int
	out    taughtResult
}

// tree teaches a file, or all below a folder that are not hidden.
func (l *lecture) tree(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("teach: %w", err)
		case path != root && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() && d.Name() != "." {
				return fs.SkipDir
			}
			return nil
		case d.IsDir() || !d.Type().IsRegular() && path != root:
			return nil
		}
		return l.file(path)
	})
}

// file teaches one message, or those of an mbox.
func (l *lecture) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("teach: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	if start, _ := r.Peek(5); string(start) == "From " {
		err = splitMbox(r, func(m mboxMessage) error { return l.message(m.octets) })
	} else {
		var raw bytes.Buffer
		if _, err = raw.ReadFrom(r); err == nil {
			err = l.message(raw.Bytes())
		}
	}
	if err != nil {
		return fmt.Errorf("teach %s: %w", path, err)
	}
	return nil
}

var errTaughtSize = errors.New("it is larger than any message")

func (l *lecture) message(raw []byte) error {
	if len(raw) > maxTaughtFile {
		return errTaughtSize
	}
	features, err := spam.FeaturesOf(l.key, raw)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(raw)
	entry := taughtEntry{hash[:storage.SpamHashSize], features.Marshal()}
	l.Messages = append(l.Messages, entry)
	l.octets += len(entry.Features)
	if len(l.Messages) == storage.MaxLessonBatch || l.octets > maxTaughtOctets {
		return l.send()
	}
	return nil
}

// send teaches what has come together, and waits while too much is waiting.
func (l *lecture) send() error {
	if len(l.Messages) == 0 {
		return nil
	}
	var out taughtResult
	if err := l.ask(l.ctx, "spam.learn", l.taught, &out); err != nil {
		return err
	}
	l.out.Queued, l.out.Waiting = l.out.Queued+out.Queued, out.Waiting
	l.Messages, l.octets = l.Messages[:0], 0
	for l.out.Waiting > taughtRoom {
		if err := l.pause(); err != nil {
			return err
		}
	}
	return nil
}

// pause waits a moment and asks how many lessons wait.
func (l *lecture) pause() error {
	select {
	case <-l.ctx.Done():
		return l.ctx.Err()
	case <-time.After(taughtPause):
	}
	var out taughtResult
	if err := l.ask(l.ctx, "spam.learn", taught{Address: l.Address}, &out); err != nil {
		return err
	}
	l.out.Waiting = out.Waiting
	return nil
}

// learnFeatures queues what the command found.
func (n *node) learnFeatures(ctx context.Context, in taught) (taughtResult, error) {
	account, err := n.accountOf(ctx, in.Address)
	if err != nil {
		return taughtResult{}, err
	}
	lessons := make([]storage.SpamLesson, 0, len(in.Messages))
	for _, m := range in.Messages {
		lessons = append(lessons, storage.SpamLesson{Account: account.ID, Hash: m.Hash, Unwanted: in.Unwanted, Source: storage.LessonCommand, Features: m.Features})
	}
	if err := n.store.AddLessons(ctx, lessons); err != nil {
		return taughtResult{}, err
	}
	waiting, err := n.store.WaitingLessons(ctx, account.ID)
	return taughtResult{Queued: len(lessons), Waiting: waiting}, err
}

// accountOf finds an account; an empty address is the host, with id 0.
func (n *node) accountOf(ctx context.Context, address string) (storage.Account, error) {
	if address == "" {
		return storage.Account{}, nil
	}
	return n.store.AccountByAddress(ctx, address)
}
