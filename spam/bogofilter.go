package spam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// bogofilter is Debian's filter of that name, for comparison.
type bogofilter struct{ home string }

// newBogofilter has a memory of its own, which close forgets.
func newBogofilter() (*bogofilter, error) {
	if _, err := exec.LookPath("bogofilter"); err != nil {
		return nil, fmt.Errorf("bogofilter is not installed: %w", err)
	}
	home, err := os.MkdirTemp("", "bogofilter-*")
	return &bogofilter{home}, err
}

func (b *bogofilter) close() error { return os.RemoveAll(b.home) }

func (b *bogofilter) run(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "bogofilter", append([]string{"-C", "-d", b.home}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var problem bytes.Buffer
	cmd.Stderr = &problem
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() < 3 { // 0 to 2 are verdicts
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("bogofilter: %w: %s", err, problem.String())
	}
	return string(out), nil
}

// learn teaches messages by their paths.
func (b *bogofilter) learn(ctx context.Context, unwanted bool, paths ...string) error {
	if len(paths) == 0 {
		return nil
	}
	flag := "-n"
	if unwanted {
		flag = "-s"
	}
	_, err := b.run(ctx, strings.Join(paths, "\n")+"\n", flag, "-b")
	return err
}

// judge returns the score of each message, 0 to 1.
func (b *bogofilter) judge(ctx context.Context, paths ...string) ([]float64, error) {
	out, err := b.run(ctx, strings.Join(paths, "\n")+"\n", "-TT", "-b")
	if err != nil {
		return nil, err
	}
	var scores []float64
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		score, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			return nil, fmt.Errorf("bogofilter says %q", line)
		}
		scores = append(scores, score)
	}
	if len(scores) != len(paths) {
		return nil, fmt.Errorf("bogofilter judged %d of %d messages", len(scores), len(paths))
	}
	return scores, nil
}

// bogofilterFeedback has it judge each message and then learn it.
func bogofilterFeedback(ctx context.Context, order []labelled, taught []bool) ([]outcome, error) {
	b, err := newBogofilter()
	if err != nil {
		return nil, err
	}
	defer b.close()
	out := make([]outcome, 0, len(order))
	for i, l := range order {
		score := []float64{0.5}
		if i > 0 {
			if score, err = b.judge(ctx, l.path); err != nil {
				return nil, err
			}
		}
		out = append(out, outcome{score[0], l.unwanted})
		if err := b.learn(ctx, taught[i], l.path); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// bogofilterSplit has it learn the first 30 % and judge the rest.
func bogofilterSplit(ctx context.Context, order []labelled, taught []bool) ([]outcome, error) {
	b, err := newBogofilter()
	if err != nil {
		return nil, err
	}
	defer b.close()
	first := len(order) * 3 / 10
	paths := map[bool][]string{}
	for i, l := range order[:first] {
		paths[taught[i]] = append(paths[taught[i]], l.path)
	}
	for _, unwanted := range []bool{false, true} {
		if err := b.learn(ctx, unwanted, paths[unwanted]...); err != nil {
			return nil, err
		}
	}
	var rest []string
	for _, l := range order[first:] {
		rest = append(rest, l.path)
	}
	scores, err := b.judge(ctx, rest...)
	if err != nil {
		return nil, err
	}
	out := make([]outcome, len(scores))
	for i, score := range scores {
		out[i] = outcome{score, order[first+i].unwanted}
	}
	return out, nil
}
