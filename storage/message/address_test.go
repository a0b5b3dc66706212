package message

import (
	"os"
	"strings"
	"testing"
)

// addressCase is one field of testdata/addresses.txt with the list it gives.
type addressCase struct {
	input, want string
	line        int
}

// addressCases reads testdata/addresses.txt: a field, then an indented line for each element of its list.
func addressCases(t testing.TB) []addressCase {
	t.Helper()
	raw, err := os.ReadFile("testdata/addresses.txt")
	if err != nil {
		t.Fatal(err)
	}
	var cases []addressCase
	for i, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		switch {
		case strings.HasPrefix(line, "#") || line == "":
		case strings.HasPrefix(line, "\t"):
			cases[len(cases)-1].want += line[1:] + "\n"
		default:
			cases = append(cases, addressCase{input: line, line: i + 1})
		}
	}
	return cases
}

func TestParseAddressList(t *testing.T) {
	cases := addressCases(t)
	if len(cases) < 40 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		var got strings.Builder
		for _, a := range ParseAddressList(c.input) {
			got.Write(appendAddress(nil, &a))
			got.WriteByte('\n')
		}
		if got.String() != c.want {
			t.Errorf("line %d: %s\ngot\n%swant\n%s", c.line, c.input, got.String(), c.want)
		}
	}
}
