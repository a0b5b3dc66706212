package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newSubmissionNode is a node with the listeners of users, that sends nothing out,
// and a file with the certificate it shows.
func newSubmissionNode(t *testing.T, accounts ...string) (n *node, trust string) {
	t.Helper()
	n = &node{t: t, data: t.TempDir(), flags: []string{"--resolver", "off"}, listen: map[string]string{"smtp": free(t), "imap": free(t),
		"http": free(t), "submission": free(t), "submissions": free(t)}}
	n.command(password, "setup", "admin@"+domain, "--password-stdin", "--hostname", "mail."+domain, "--listen", n.listenFlag())
	n.start()
	t.Cleanup(n.stop)
	for _, a := range accounts {
		n.command(password, "account", "add", a+"@"+domain, "--password-stdin")
	}
	trust = filepath.Join(t.TempDir(), "trust.pem")
	if err := os.WriteFile(trust, n.plain("certificate", "show"), 0o600); err != nil {
		t.Fatal(err)
	}
	return n, trust
}

// queuedAddress is a line of `trivet queue list`, as far as tests look.
type queuedAddress struct {
	Address string `json:"address"`
	Message struct {
		Sender string `json:"sender"`
	} `json:"message"`
}

func (n *node) queued() []queuedAddress {
	n.t.Helper()
	var page struct {
		Recipients []queuedAddress `json:"recipients"`
	}
	if err := json.Unmarshal(n.command("", "queue", "list"), &page); err != nil {
		n.t.Fatal(err)
	}
	return page.Recipients
}

// waitFor waits until an account has a message with a text in it, and returns it.
func (n *node) waitFor(account, text string) string {
	n.t.Helper()
	var found string
	n.wait(fmt.Sprintf("%s has %q", account, text), func() bool {
		for _, m := range n.texts(account) {
			if strings.Contains(m, text) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// texts are the messages in an account's INBOX.
func (n *node) texts(account string) []string {
	n.t.Helper()
	c := n.rawIMAP(account)
	defer c.Close()
	reply := string(c.command("FETCH 1:* BODY.PEEK[]"))
	return strings.Split(reply, "\r\n* ")
}

func TestSubmissionBySwaks(t *testing.T) {
	need(t, "swaks")
	n, trust := newSubmissionNode(t, "ann")
	ann := "ann@" + domain
	n.command(password, "account", "password", ann, "--cram-md5", "--password-stdin")
	c := newClient(t, "swaks")
	send := func(subject string, args ...string) (string, error) {
		out, err := c.try("swaks", append([]string{"--ehlo", "client.example", "--from", ann, "--to", ann, "--header", "Subject: " + subject,
			"--auth-user", ann, "--auth-password", password, "--tls-ca-path", trust, "--tls-verify", "--tls-get-peer-cert"}, args...)...)
		return string(out), err
	}
	for _, mechanism := range []string{"PLAIN", "LOGIN", "CRAM-MD5"} {
		for listener, tls := range map[string][]string{"submission": {"--tls"}, "submissions": {"--tls-on-connect"}} {
			subject := mechanism + " on " + listener
			out, err := send(subject, append(tls, "--server", n.at(listener), "--auth", mechanism)...)
			if mechanism == "CRAM-MD5" && strings.Contains(out, "Digest::MD5") {
				continue // swaks has no module for it here; msmtp shows it
			}
			if err != nil {
				t.Errorf("%s: %v\n%s", subject, err, out)
				continue
			}
			if m := n.waitFor("ann", "Subject: "+subject); !strings.Contains(m, "with ESMTPSA id ") || !strings.Contains(m, "Message-Id: <") || !strings.Contains(m, "DKIM-Signature: v=1; ") {
				t.Errorf("%s: %s", subject, m)
			}
		}
	}
	if m := n.texts("ann"); len(m) < 4 {
		t.Errorf("ann has %d messages", len(m))
	}
	for _, refusal := range []struct {
		what, want string
		args       []string
	}{
		{"wrong password", "535 5.7.8", []string{"--auth", "PLAIN", "--auth-password", "wrong"}},
		{"no login", "530 5.7.0", nil},
		{"somebody else's address", "550 5.7.1 You may not send as eve@elsewhere.example; use " + ann, []string{"--auth", "PLAIN", "--from", "eve@elsewhere.example"}},
		{"somebody else in From", "550 5.7.1 You may not send as admin@" + domain, []string{"--auth", "PLAIN", "--h-From", "admin@" + domain}},
		{"two authors", "550 5.6.0", []string{"--auth", "PLAIN", "--add-header", "From: " + ann}},
		{"unknown recipient here", "550 5.1.1", []string{"--auth", "PLAIN", "--to", "nobody@" + domain}},
	} {
		args := append([]string{"--server", n.at("submission"), "--tls"}, refusal.args...)
		if refusal.args == nil {
			out, err := c.try("swaks", "--server", n.at("submission"), "--from", ann, "--to", ann)
			if err == nil || !strings.Contains(string(out), refusal.want) {
				t.Errorf("%s: %v\n%s", refusal.what, err, out)
			}
			continue
		}
		if out, err := send("refused", args...); err == nil || !strings.Contains(out, refusal.want) {
			t.Errorf("%s: %v\n%s", refusal.what, err, out)
		}
	}
	if out, err := c.try("swaks", "--server", n.at("smtp"), "--from", ann, "--to", ann, "--auth", "PLAIN", "--auth-user", ann, "--auth-password", password); err == nil {
		t.Errorf("port 25 lets users log in:\n%s", out)
	}
}

// pythonSubmission sends with smtplib, over TLS both ways.
const pythonSubmission = `
import smtplib, ssl, sys
from email.message import EmailMessage
host, starttls, implicit, user, password, trust = sys.argv[1:]
context = ssl.create_default_context(cafile=trust)
context.check_hostname = False
for port, secure in ((starttls, False), (implicit, True)):
    if secure:
        s = smtplib.SMTP_SSL(host, int(port), context=context)
    else:
        s = smtplib.SMTP(host, int(port))
        s.starttls(context=context)
    s.login(user, password)
    m = EmailMessage()
    m['From'], m['To'], m['Bcc'] = user, 'far@elsewhere.example', user
    m['Subject'] = 'smtplib ' + ('implicit' if secure else 'starttls') + ' é'
    m.set_content('Grüße\n.\n')
    assert s.send_message(m, to_addrs=[user, 'far@elsewhere.example'], rcpt_options=['NOTIFY=FAILURE']) == {}
    for refused, sender, to in ((553, user, 'jürgen@elsewhere.example'), (550, 'eve@elsewhere.example', user)):
        try:
            s.ehlo_or_helo_if_needed()
            s.docmd('RSET')
            code, _ = s.docmd('MAIL FROM:<%s>' % sender)
            if code == 250:
                s.sock.sendall(('RCPT TO:<%s>\r\n' % to).encode())
                code, _ = s.getreply()
            assert code == refused, (code, refused)
        finally:
            pass
    s.quit()
`

func TestSubmissionByPython(t *testing.T) {
	need(t, "python3")
	n, trust := newSubmissionNode(t, "ann")
	ann := "ann@" + domain
	c := newClient(t, "python3")
	out := c.run("python3", c.write("send.py", pythonSubmission), "127.0.0.1", port(n.at("submission")), port(n.at("submissions")), ann, password, trust)
	if len(out) > 0 {
		t.Errorf("%s", out)
	}
	m := n.waitFor("ann", "smtplib starttls")
	if strings.Contains(m, "Bcc:") || !strings.Contains(m, "Date: ") || !strings.Contains(m, "Message-ID: <") {
		t.Errorf("message %s", m)
	}
	n.waitFor("ann", "smtplib implicit")
	queue := n.queued()
	if len(queue) != 2 || queue[0].Address != "far@elsewhere.example" || queue[0].Message.Sender != ann {
		t.Errorf("queue %+v", queue)
	}
}

// curl sends with the mechanisms it has, msmtp with SCRAM and CRAM-MD5 besides.
func TestSubmissionByCurlAndMsmtp(t *testing.T) {
	need(t, "curl")
	n, trust := newSubmissionNode(t, "ann")
	ann := "ann@" + domain
	n.command(password, "account", "password", ann, "--cram-md5", "--password-stdin")
	c := newClient(t, "curl")
	for name, url := range map[string]string{"starttls": "smtp://" + n.at("submission"), "implicit": "smtps://" + n.at("submissions")} {
		letter := c.write("letter-"+name, "From: "+ann+"\r\nSubject: curl "+name+"\r\n\r\nHello\r\n")
		c.run("curl", "--silent", "--show-error", "--url", url, "--ssl-reqd", "--insecure", "--user", ann+":"+password,
			"--mail-from", ann, "--mail-rcpt", ann, "--upload-file", letter)
		n.waitFor("ann", "Subject: curl "+name)
	}
	need(t, "msmtp")
	for _, mechanism := range []string{"plain", "login", "scram-sha-256", "cram-md5"} {
		for name, listener := range map[string]string{"on": "submission", "off": "submissions"} {
			subject := fmt.Sprintf("msmtp %s %s", mechanism, listener)
			config := c.write("msmtprc", fmt.Sprintf("account a\nhost 127.0.0.1\nport %s\nfrom %s\nuser %s\npasswordeval printf '%%s' '%s'\nauth %s\n"+
				"tls on\ntls_starttls %s\ntls_trust_file %s\ntls_host_override mail.%s\naccount default : a\n",
				port(n.at(listener)), ann, ann, password, mechanism, name, trust, domain))
			out, err := tool(t, "From: "+ann+"\nTo: "+ann+"\nSubject: "+subject+"\n\nHello\n", "msmtp", "--file="+config, ann)
			if err != nil {
				t.Errorf("%s: %v\n%s", subject, err, out)
				continue
			}
			n.waitFor("ann", "Subject: "+subject)
		}
	}
}

// Any node takes what users send, and all count it together.
func TestSubmissionOnAFollower(t *testing.T) {
	need(t, "swaks")
	c := startCluster(t, 3, clusterOptions{flags: []string{"--resolver", "off", "--submission-messages", "3"}, users: true}, "ann")
	ann := "ann@" + domain
	swaks := newClient(t, "swaks")
	send := func(n *node, subject, want string) {
		t.Helper()
		out, err := swaks.try("swaks", "--server", n.at("submission"), "--tls", "--auth", "PLAIN", "--auth-user", ann, "--auth-password", password,
			"--from", ann, "--to", ann+",far@elsewhere.example", "--header", "Subject: "+subject)
		if (err == nil) != (want == "") || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", subject, err, out)
		}
	}
	for i, n := range c.nodes {
		send(n, fmt.Sprint("node ", i), "")
	}
	for _, n := range c.nodes {
		n.waitFor("ann", "Subject: node 2")
	}
	c.agree()
	leader := c.leader()
	old, err := leader.status()
	if err != nil {
		t.Fatal(err)
	}
	leader.stop()
	for _, n := range c.nodes {
		if n != leader {
			n.wait("another leader", func() bool { s, err := n.status(); return err == nil && s.Leader != "" && s.Leader != old.Node })
			send(n, "one too many", "450 4.7.1 You have sent as much as you may in an hour, try again after ")
		}
	}
	leader.start()
	c.settle()
	c.agree()
}
