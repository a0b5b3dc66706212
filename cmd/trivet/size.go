package main

import (
	"fmt"
	"strconv"
	"strings"
)

// size is a number of octets, written as 25MiB, 1.5G, 500 kB or 1000.
type size int64

// units are the suffixes of a size; a bare letter means the power of 1024.
var units = [...]struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3},
	{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"B", 1},
}

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	number, factor := strings.TrimSpace(text), int64(1)
	for _, u := range units {
		if head, ok := cutSuffixFold(number, u.name); ok {
			number, factor = strings.TrimSpace(head), u.bytes
			break
		}
	}
	value, err := strconv.ParseFloat(number, 64)
	bytes := value * float64(factor)
	if err != nil || !(bytes >= 0 && bytes < 1<<62) {
		return fmt.Errorf("%q is no size; write 1000, 500kB or 25MiB", text)
	}
	*s = size(bytes)
	return nil
}

func cutSuffixFold(s, suffix string) (string, bool) {
	i := len(s) - len(suffix)
	if i < 0 || !strings.EqualFold(s[i:], suffix) {
		return s, false
	}
	return s[:i], true
}

// String implements pflag.Value. Set reads it back exactly.
func (s size) String() string {
	for _, u := range units[:4] {
		if n := int64(s); n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Type implements pflag.Value.
func (*size) Type() string { return "SIZE" }

// about writes a size for people.
func (s size) about() string {
	for _, u := range units[:4] {
		if int64(s) >= u.bytes {
			return fmt.Sprintf("%.1f %s", float64(s)/float64(u.bytes), u.name)
		}
	}
	return fmt.Sprintf("%d B", int64(s))
}
