package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

type dnsRecord struct {
	Name, Type, Value, Reason, Zone string
	Todo                            bool
}

// records are what a node says is to be published, with the addresses that it
// does not know filled in, as lines of a zone file.
func (n *node) records() (records []dnsRecord, lines []string) {
	n.t.Helper()
	var out struct{ Records []dnsRecord }
	if err := json.Unmarshal(n.command("", "domain", "dns", domain), &out); err != nil {
		n.t.Fatal(err)
	}
	for _, r := range out.Records {
		if r.Todo {
			r.Value = "127.0.0.1"
		}
		lines = append(lines, fmt.Sprintf("%s 1 IN %s %s", r.Name, r.Type, r.Value))
	}
	return out.Records, lines
}

// What is printed is a zone that a name server takes as it is, the DKIM record in pieces among it.
func TestZoneFileIsOne(t *testing.T) {
	n, _ := newTLSNode(t, "--resolver", "off")
	text := string(n.plain("domain", "dns", domain, "--zone"))
	zone := "$TTL 3600\n" + domain + ". IN SOA ns." + domain + ". hostmaster." + domain + ". 1 3600 600 86400 60\n" +
		domain + ". IN NS ns." + domain + ".\nns." + domain + ". IN A 127.0.0.1\n" + text
	path := filepath.Join(t.TempDir(), "zone")
	if err := os.WriteFile(path, []byte(zone), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := tool(t, "", "named-checkzone", "-i", "none", domain, path); err != nil || !strings.Contains(out, "OK") {
		t.Errorf("named-checkzone: %v\n%s\n%s", err, out, zone)
	}
	kinds := map[uint16]int{}
	parser := dns.NewZoneParser(strings.NewReader(zone), "", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		kinds[rr.Header().Rrtype]++
		if txt, ok := rr.(*dns.TXT); ok && strings.Contains(txt.Hdr.Name, "._domainkey.") && len(txt.Txt) < 2 {
			t.Errorf("a key of RSA is in %d pieces", len(txt.Txt))
		}
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	for kind, least := range map[uint16]int{dns.TypeMX: 1, dns.TypeTXT: 6, dns.TypeSRV: 3, dns.TypeCNAME: 3, dns.TypeTLSA: 1} {
		if kinds[kind] < least {
			t.Errorf("%d records of type %s", kinds[kind], dns.TypeToString[kind])
		}
	}
	records, _ := n.records()
	for _, r := range records {
		if r.Reason == "" {
			t.Errorf("no reason for %+v", r)
		}
	}
}

type dnsFinding struct {
	Check, Status, Found, Advice string
	Paste                        []string
}

// check returns what `domain check` finds that is not in order, by what was checked.
func (n *node) check() map[string]dnsFinding {
	n.t.Helper()
	out, err := n.try("", "domain", "check", domain)
	var findings []dnsFinding
	if jsonErr := json.Unmarshal(out, &findings); jsonErr != nil {
		n.t.Fatalf("%v, %v: %s", err, jsonErr, out)
	}
	bad := map[string]dnsFinding{}
	failed := false
	for _, f := range findings {
		failed = failed || f.Status == "fail"
		if f.Status != "ok" {
			bad[f.Check] = f
		}
	}
	if failed != (err != nil) {
		n.t.Errorf("exit status %v, findings %+v", err, bad)
	}
	return bad
}

// A zone with what was printed has nothing to complain of; each mistake in it is
// found, told from others, and answered with the line to paste.
func TestDomainCheck(t *testing.T) {
	z := newZone(t)
	n, _ := newTLSNode(t, "--resolver", z.address)
	_, right := n.records()
	z.set(t, right...)
	if bad := n.check(); len(bad) > 0 {
		t.Errorf("the zone as it was printed: %+v", bad)
	}
	host := "mail." + domain
	tests := []struct {
		name         string
		drop         string // lines that have this are left out
		add          string
		check        string // what it is found by
		status, says string
	}{
		{"no MX", " MX ", "", "MX " + domain + ".", "fail", "mail for " + domain + " does not come here"},
		{"MX of others", " MX ", domain + ". MX 10 mx.other.example.", "MX " + domain + ".", "fail", "mail goes to mx.other.example"},
		{"one more MX", "nothing", domain + ". MX 5 mx.other.example.", "MX " + domain + ".", "warn", "also goes to mx.other.example"},
		{"null MX", " MX ", domain + ". MX 0 .", "MX " + domain + ".", "fail", "takes no mail"},
		{"no SPF", "v=spf1 mx", "", "TXT " + domain + ".", "fail", "there is none"},
		{"two SPF", "nothing", domain + `. TXT "v=spf1 -all"`, "TXT " + domain + ".", "fail", "there are 2"},
		{"SPF of others", "v=spf1 mx", domain + `. TXT "v=spf1 ip4:198.51.100.1 -all"`, "TXT " + domain + ".", "fail", `gets "fail"`},
		{"DMARC of none", "v=DMARC1", "_dmarc." + domain + `. TXT "v=DMARC1; p=none; rua=mailto:a@` + domain + `"`, "TXT _dmarc." + domain + ".", "warn", "raise p="},
		{"broken DMARC", "v=DMARC1", "_dmarc." + domain + `. TXT "v=DMARC1; p=all"`, "TXT _dmarc." + domain + ".", "fail", "DMARC"},
		{"old MTA-STS", "v=STSv1", "_mta-sts." + domain + `. TXT "v=STSv1; id=1"`, "TXT _mta-sts." + domain + ".", "warn", "earlier policy"},
		{"autoconfig elsewhere", "autoconfig." + domain, "autoconfig." + domain + ". A 198.51.100.9", "CNAME autoconfig." + domain + ".", "warn", "198.51.100.9"},
		{"another key in TLSA", " TLSA ", "_25._tcp." + host + ". TLSA 3 1 1 " + strings.Repeat("00", 32), "TLSA _25._tcp." + host + ".", "warn", "another key"},
		{"another port", "_imaps._tcp", "_imaps._tcp." + domain + ". SRV 0 1 9 " + host + ".", "SRV _imaps._tcp." + domain + ".", "warn", "but not"},
		{"no host", host + ". 1 IN A", "", "A " + host + ".", "fail", "nobody finds this host"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var lines []string
			for _, line := range right {
				if !strings.Contains(line, test.drop) {
					lines = append(lines, line)
				}
			}
			z.set(t, append(lines, test.add)...)
			f, ok := n.check()[test.check]
			if !ok || f.Status != test.status || !strings.Contains(f.Found, test.says) || len(f.Paste) == 0 {
				t.Errorf("%s: %+v", test.check, f)
			}
		})
	}
	var key string
	for _, line := range right {
		if strings.Contains(line, "._domainkey.") {
			key = strings.Fields(line)[0]
		}
	}
	var lines []string
	for _, line := range right {
		if !strings.HasPrefix(line, key) {
			lines = append(lines, line)
		}
	}
	z.set(t, lines...)
	if f := n.check()["TXT "+key]; f.Status != "fail" || !strings.Contains(strings.Join(f.Paste, ""), "v=DKIM1") {
		t.Errorf("no key: %+v", f)
	}
	z.set(t, append(lines, key+` TXT "v=DKIM1; p=AAAA"`)...)
	if f := n.check()["TXT "+key]; f.Status != "fail" || !strings.Contains(f.Found, "another key") {
		t.Errorf("another key: %+v", f)
	}
}

// Each node of a cluster takes mail, so each has an MX.
func TestEveryNodeHasAnMX(t *testing.T) {
	c := &cluster{t: t}
	for i := range 3 {
		n := &node{t: t, data: t.TempDir() + "/data", flags: []string{"--resolver", "off", "--hostname", fmt.Sprintf("mx%d.%s", i+1, domain)},
			listen: map[string]string{"smtp": free(t), "imap": free(t), "http": free(t), "cluster": free(t)}}
		if i == 0 {
			n.command(password, "setup", "admin@"+domain, "--password-stdin", "--listen", n.listenFlag())
		} else {
			c.join(n)
		}
		c.nodes = append(c.nodes, n)
		n.start()
		t.Cleanup(n.stop)
	}
	c.settle()
	for _, n := range c.nodes {
		n.wait("naming all nodes", func() bool {
			found := 0
			records, _ := n.records()
			for _, r := range records {
				if r.Type == "MX" {
					found++
				}
			}
			return found == 3
		})
	}
	// The self-signed certificate is for all of them.
	c.nodes[0].wait("having a certificate for all nodes", func() bool {
		var shown struct{ Names []string }
		return json.Unmarshal(c.nodes[0].command("", "certificate", "show"), &shown) == nil && len(shown.Names) >= 6
	})
}

// What clients and servers ask for is answered for hosted domains, over both listeners.
func TestDiscovery(t *testing.T) {
	n, trust := newTLSNode(t, "--resolver", "off")
	get := func(host, path string) (string, error) {
		return tool(t, "", "curl", "-sS", "--fail", "--cacert", trust, "-H", "Host: "+host, "https://"+n.at("https")+path)
	}
	for _, test := range []struct{ host, path, want string }{
		{"mta-sts." + domain, "/.well-known/mta-sts.txt", "mx: mail." + domain},
		{"autoconfig." + domain, "/mail/config-v1.1.xml?emailaddress=admin@" + domain, "<hostname>mail." + domain + "</hostname>"},
		{"mail." + domain, "/apple.mobileconfig?email=admin@" + domain, "<string>mail." + domain + "</string>"},
		{"x", "/autodiscover/autodiscover.json?Email=a@" + domain + "&Protocol=AutodiscoverV1", "https://autodiscover." + domain + "/"},
	} {
		if out, err := get(test.host, test.path); err != nil || !strings.Contains(out, test.want) {
			t.Errorf("%s: %v\n%s", test.path, err, out)
		}
	}
	if out, err := get("mta-sts.other.example", "/.well-known/mta-sts.txt"); err == nil {
		t.Errorf("the policy of a domain that is not hosted:\n%s", out)
	}
	// Python's plist parser stands in for Apple's.
	script := `
import plistlib, ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
profile = plistlib.loads(urllib.request.urlopen("https://%s/apple.mobileconfig?email=%s" % (sys.argv[1], sys.argv[3]), context=context).read())
account = profile["PayloadContent"][0]
print(profile["PayloadType"], account["PayloadType"], account["EmailAddress"], account["IncomingMailServerPortNumber"])
`
	want := "Configuration com.apple.mail.managed admin@" + domain + " " + n.at("imaps")[strings.LastIndexByte(n.at("imaps"), ':')+1:]
	if out, err := tool(t, script, "python3", "-", n.at("https"), trust, "admin@"+domain); err != nil || !strings.Contains(out, want) {
		t.Errorf("plistlib: %v\n%s", err, out)
	}
}

// The doctor finds its way without the internet, and says what is wrong with an exit status.
func TestDoctor(t *testing.T) {
	z := newZone(t)
	n, _ := newTLSNode(t, "--resolver", z.address)
	findings := func(args ...string) map[string]dnsFinding {
		t.Helper()
		out, err := n.try("", append([]string{"doctor"}, args...)...)
		var list []dnsFinding
		if jsonErr := json.Unmarshal(out, &list); jsonErr != nil {
			t.Fatalf("%v, %v: %s", err, jsonErr, out)
		}
		byCheck, failed := map[string]dnsFinding{}, false
		for _, f := range list {
			byCheck[f.Check] = f
			failed = failed || f.Status == "fail"
			if f.Status != "ok" && f.Advice == "" {
				t.Errorf("it does not say what to do: %+v", f)
			}
		}
		if failed != (err != nil) {
			t.Errorf("exit status %v, findings %+v", err, byCheck)
		}
		return byCheck
	}
	found := findings("--offline")
	for check, want := range map[string]string{"quorum": "ok", "queue": "ok", "certificate of mail." + domain: "warn"} {
		if f := found[check]; f.Status != want {
			t.Errorf("%s: %+v", check, f)
		}
	}
	if _, asked := found["resolver"]; asked || found["DNS of "+domain].Status != "" {
		t.Errorf("offline it asked the DNS: %+v", found)
	}
	_, records := n.records()
	z.set(t, append(records, "ietf.org. MX 0 mail.ietf.org.")...)
	found = findings("--no-blocklists", "--ntp", n.at("smtp"), "--reach", n.at("smtp"))
	for check, want := range map[string]string{"resolver": "ok", "DNSSEC": "warn", "port 25 to the outside": "ok", "DNS of " + domain: "ok", "clock": "warn"} {
		if f := found[check]; f.Status != want {
			t.Errorf("%s: %+v", check, f)
		}
	}
	z.set(t)
	if f := findings("--no-blocklists", "--ntp", n.at("smtp"), "--reach", n.at("smtp"))["DNS of "+domain]; f.Status != "fail" || !strings.Contains(f.Advice, "domain check") {
		t.Errorf("an empty zone: %+v", f)
	}
}
