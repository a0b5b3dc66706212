package sender

import (
	"strings"
	"testing"
)

// BenchmarkGuard is what the checks of this package and of threat cost for a message of 5 KB with ten links, without the
// state and the DNS.
func BenchmarkGuard(b *testing.B) {
	g := &Guard{Host: host(DefaultSettings()), Store: &fake{}, Resolver: zone{}, Ledger: &Ledger{}, Rates: &Rates{}}
	m := mailFrom(b, "Bea Brown <bea@example.net>", "", strings.Repeat(strings.Repeat("Some words of a letter. ", 20)+"https://www.example.com/page\r\n", 10))
	m.Trial = true
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Check(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
}
