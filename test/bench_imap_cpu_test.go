package test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// processorTime is what a process and those it started, as far as they live,
// have used. On a machine that is busy with something else it says more than
// the clock.
func processorTime(root int) time.Duration {
	total := time.Duration(0)
	for _, pid := range descendants(root) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, path := range tasks {
			text, err := os.ReadFile(path)
			if fields := bytes.Fields(text); err == nil && len(fields) > 0 {
				n, _ := strconv.ParseInt(string(fields[0]), 10, 64)
				total += time.Duration(n)
			}
		}
	}
	return total
}

// descendants are a process and all below it.
func descendants(root int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ") // the name is in parentheses
		fields := strings.Fields(rest)
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		if len(fields) > 1 {
			parent, _ := strconv.Atoi(fields[1])
			children[parent] = append(children[parent], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}
