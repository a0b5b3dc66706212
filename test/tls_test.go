package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// newTLSNode is a node with the listeners that have TLS, and a file with the
// certificate it shows.
func newTLSNode(t *testing.T, flags ...string) (n *node, trust string) {
	t.Helper()
	n = &node{t: t, data: t.TempDir(), flags: flags, listen: map[string]string{"smtp": free(t), "imap": free(t), "http": free(t),
		"imaps": free(t), "https": free(t)}}
	n.command(password, "setup", "admin@"+domain, "--password-stdin", "--hostname", "mail."+domain, "--listen", n.listenFlag())
	n.start()
	t.Cleanup(n.stop)
	trust = filepath.Join(t.TempDir(), "trust.pem")
	pem := n.plain("certificate", "show")
	if err := os.WriteFile(trust, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return n, trust
}

// plain runs trivet without --json.
func (n *node) plain(args ...string) []byte {
	n.t.Helper()
	out, err := exec.Command(binary, append(args, "--data", n.data)...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("trivet %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// tool runs a program and returns what it says on both streams.
func tool(t *testing.T, stdin string, name string, args ...string) (string, error) {
	t.Helper()
	need(t, name)
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// openssl s_client, which knows nothing of us, verifies every listener.
func TestEveryListenerShowsTheCertificate(t *testing.T) {
	n, trust := newTLSNode(t)
	for name, starttls := range map[string]string{"smtp": "smtp", "imap": "imap", "imaps": "", "https": ""} {
		args := []string{"s_client", "-connect", n.at(name), "-CAfile", trust, "-verify_return_error", "-verify_hostname", "mail." + domain, "-brief"}
		if starttls != "" {
			args = append(args, "-starttls", starttls)
		}
		out, err := tool(t, "", "openssl", args...)
		if err != nil || !strings.Contains(out, "Verification: OK") || !strings.Contains(out, "TLSv1.3") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if out, err := tool(t, "", "openssl", append(args, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")...); err == nil {
			t.Errorf("%s: TLS 1.1 is accepted\n%s", name, out)
		}
	}
}

func TestPort25GivesNoTickets(t *testing.T) {
	n, trust := newTLSNode(t)
	for name, want := range map[string]bool{"smtp": false, "imap": true} {
		out, err := tool(t, "", "openssl", "s_client", "-connect", n.at(name), "-CAfile", trust, "-starttls", name, "-tls1_2")
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		if got := strings.Contains(out, "TLS session ticket:"); got != want {
			t.Errorf("%s: ticket %v, want %v\n%s", name, got, want, out)
		}
	}
}

// curl and Python's imaplib read mail over TLS, trusting what `certificate show` printed.
func TestClientsReadOverTLS(t *testing.T) {
	n, trust := newTLSNode(t)
	login := "admin@" + domain + ":" + password
	for _, args := range [][]string{
		{"--user", login, "imaps://" + n.at("imaps") + "/"},
		{"--ssl-reqd", "--user", login, "imap://" + n.at("imap") + "/"},
		{"https://" + n.at("https") + "/readyz"},
	} {
		out, err := tool(t, "", "curl", append([]string{"-sS", "--cacert", trust}, args...)...)
		if err != nil || !strings.Contains(out, "INBOX") && !strings.Contains(out, "ready") {
			t.Errorf("curl %v: %v\n%s", args, err, out)
		}
		if out, err := tool(t, "", "curl", append([]string{"-sS"}, args...)...); err == nil {
			t.Errorf("curl %v trusts anything:\n%s", args, out)
		}
	}
	out, err := tool(t, "", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_version}", "--cacert", trust, "https://"+n.at("https")+"/readyz")
	if err != nil || out != "2" {
		t.Errorf("HTTP version %s, %v", out, err)
	}
	script := `
import imaplib, ssl, sys
host, port = sys.argv[1].rsplit(":", 1)
context = ssl.create_default_context(cafile=sys.argv[2])
mail = imaplib.IMAP4_SSL(host, int(port), ssl_context=context)
mail.login(sys.argv[3], sys.argv[4])
print(mail.select("INBOX"))
mail.logout()
`
	if out, err := tool(t, script, "python3", "-", n.at("imaps"), trust, "admin@"+domain, password); err != nil || !strings.Contains(out, "OK") {
		t.Errorf("python: %v\n%s", err, out)
	}
}

// A certificate of one's own is shown, and shown anew when the files change.
func TestOwnCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	issue := func(name string) {
		t.Helper()
		out, err := tool(t, "", "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN="+name,
			"-addext", "subjectAltName=DNS:"+name, "-keyout", key, "-out", cert)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	issue("one.test.example")
	n, _ := newTLSNode(t, "--tls-cert", cert, "--tls-key", key)
	subject := func() string {
		out, _ := tool(t, "", "openssl", "s_client", "-connect", n.at("imaps"))
		return out
	}
	if out := subject(); !strings.Contains(out, "CN = one.test.example") {
		t.Errorf("shown:\n%s", out)
	}
	issue("two.test.example")
	n.wait("showing the new certificate", func() bool { return strings.Contains(subject(), "CN = two.test.example") })

	n.stop()
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	n.launch()
	<-n.exited
	if log := n.log.String(); !strings.Contains(log, "tls-key") || !strings.Contains(log, "no such file") {
		t.Errorf("it says:\n%s", log)
	}
}
