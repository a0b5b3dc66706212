package dns

import (
	"errors"
	"net"
	"testing"
)

func TestLookupSRV(t *testing.T) {
	z := newZone(t, records(`
_imaps._tcp.example.org. 60 IN SRV 10 1 993 b.example.org.
_imaps._tcp.example.org. 60 IN SRV 0 1 993 c.example.org.
_imaps._tcp.example.org. 60 IN SRV 0 5 993 a.example.org.
_pop3s._tcp.example.org. 60 IN SRV 0 0 0 .
_odd._tcp.example.org. 60 IN SRV 0 0 1 a\;b.example.org.`))
	r := z.resolver()
	found, err := r.LookupSRV(t.Context(), "_imaps._tcp.example.org")
	if err != nil || len(found) != 3 || found[0].Target != "a.example.org." || found[1].Target != "c.example.org." || *found[2] != (net.SRV{Target: "b.example.org.", Port: 993, Priority: 10, Weight: 1}) {
		t.Errorf("%+v, %v", found, err)
	}
	if found, err := r.LookupSRV(t.Context(), "_pop3s._tcp.example.org"); err != nil || found[0].Target != "." {
		t.Errorf("a service that is not there: %+v, %v", found, err)
	}
	for _, name := range []string{"_none._tcp.example.org", "_odd._tcp.example.org"} {
		var e *net.DNSError
		if _, err := r.LookupSRV(t.Context(), name); !errors.As(err, &e) || !e.IsNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
}
