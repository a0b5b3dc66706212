package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

// taste makes a message of a sort: both share most of their words.
func taste(n int, unwanted bool, to string) mail {
	random := rand.New(rand.NewPCG(uint64(n), 7))
	words := strings.Fields("meeting report agenda tuesday budget review minutes draft attached regards project schedule")
	if unwanted {
		words = strings.Fields("winner pills cheap replica casino lottery bargain guaranteed cash prize click urgent")
	}
	common := strings.Fields("the a of and to in it is that for you with on this are we have be will not")
	token := fmt.Sprintf("taste-%d-%v", n, unwanted)
	var b strings.Builder
	fmt.Fprintf(&b, "From: person%d@host%d.example\r\nTo: <%s>\r\nSubject: %s\r\nMessage-ID: <%s@elsewhere.example>\r\n\r\n", n, n%7, to, token, token)
	for i := range 80 {
		list := common
		if random.IntN(3) == 0 {
			list = words
		}
		b.WriteString(list[random.IntN(len(list))])
		b.WriteString([]string{" ", "\r\n"}[i%10/9])
	}
	b.WriteString("\r\n")
	return mail{token: token, to: to, raw: []byte(b.String())}
}

// learnedBy is what `trivet spam stats` says of an account; empty: of the server.
type learnedBy struct {
	Address string `json:"address"`
	Ham     int    `json:"ham"`
	Spam    int    `json:"spam"`
	Waiting int    `json:"waiting"`
}

func (n *node) learned(address string) (found learnedBy) {
	n.t.Helper()
	var all []learnedBy
	args := []string{"spam", "stats"}
	if address != "" {
		args = append(args, address)
	}
	if err := json.Unmarshal(n.command("", args...), &all); err != nil {
		n.t.Fatal(err)
	}
	for _, l := range all {
		if l.Address == address {
			return l
		}
	}
	return found
}

// sortMail moves an account's unwanted mail to Junk and marks the rest as wanted, as mail programs do.
func (n *node) sortMail(account string) {
	n.t.Helper()
	c := n.dialIMAP(account)
	defer c.Close()
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		n.t.Fatal(err)
	}
	find := func(unwanted bool) imap.UIDSet {
		found, err := c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: fmt.Sprint("-", unwanted)}}}, nil).Wait()
		if err != nil {
			n.t.Fatal(err)
		}
		return imap.UIDSetNum(found.AllUIDs()...)
	}
	if err := c.Store(find(false), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagNotJunk}, Silent: true}, nil).Close(); err != nil {
		n.t.Fatal(err)
	}
	if _, err := c.Move(find(true), "Junk").Wait(); err != nil {
		n.t.Fatal(err)
	}
}

// TestFilterLearns has a user sort mail by IMAP; from then on all nodes put aside what she does not want, and what
// another user gets is as before. The models are the same on all nodes, bit for bit.
func TestFilterLearns(t *testing.T) {
	c := newCluster(t, 3, "ann", "bob")
	ann, bob := "ann@"+domain, "bob@"+domain
	const each = 60
	var mails []mail
	for i := range each {
		mails = append(mails, taste(i, true, ann), taste(i, false, ann))
	}
	sendAll(t, c.nodes[0].at("smtp"), 4, mails)
	c.settle()
	c.nodes[1].sortMail("ann")
	c.nodes[0].wait("the lessons to be learned", func() bool {
		l := c.nodes[2].learned(ann)
		return l.Ham == each && l.Spam == each && l.Waiting == 0
	})
	if l := c.nodes[0].learned(bob); l.Ham != 0 || l.Spam != 0 {
		t.Errorf("bob taught nothing: %+v", l)
	}
	for i, n := range c.nodes {
		sendAll(t, n.at("smtp"), 1, []mail{taste(1000+i, true, ann), taste(1000+i, false, ann), taste(2000+i, true, bob)})
	}
	c.settle()
	for i, n := range c.nodes {
		if junk := n.stored("Junk"); len(junk) != each+len(c.nodes) || !strings.Contains(junk[len(junk)-1], "\r\nX-Spam-Status: Yes, ") || !strings.Contains(junk[len(junk)-1], "classifier=") {
			t.Errorf("node %d: ann has %d messages in Junk", i, len(junk))
		}
		if in := n.stored("INBOX"); len(in) != each+len(c.nodes) || !strings.Contains(in[len(in)-1], "\r\nX-Spam-Status: No, ") {
			t.Errorf("node %d: ann has %d messages in INBOX", i, len(in))
		}
		if in := n.inboxOf(bob); len(in) != len(c.nodes) {
			t.Errorf("node %d: bob has %d messages in INBOX; %s", i, len(in), n.command("", "trace", bob))
		}
	}
	c.agree()
	c.nodes[0].command("", "spam", "forget", ann)
	if l := c.nodes[0].learned(ann); l.Ham+l.Spam != 0 {
		t.Errorf("forgotten: %+v", l)
	}
	c.agree()
}

// TestTeachingByFiles has the command teach while mail comes in, asks what becomes of a message, and starts the node again.
func TestTeachingByFiles(t *testing.T) {
	n := newNode(t, "ann")
	ann := "ann@" + domain
	dir := t.TempDir()
	for _, label := range []string{"ham", "spam"} {
		if err := os.Mkdir(filepath.Join(dir, label), 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range 80 {
			if err := os.WriteFile(filepath.Join(dir, label, fmt.Sprint(i)), taste(i, label == "spam", ann).raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask := func() (v struct {
		Action      string  `json:"action"`
		Probability float64 `json:"probability"`
		Reasons     []struct {
			Name string `json:"name"`
		} `json:"reasons"`
	}) {
		t.Helper()
		file := filepath.Join(dir, "question")
		if err := os.WriteFile(file, taste(999, true, ann).raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(n.command("", "spam", "check", file, "--account", ann), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := ask(); v.Action != "accept" {
		t.Errorf("before anything was learned: %+v", v)
	}
	var mails []mail
	for i := range 200 {
		mails = append(mails, newMail(uint64(i), 3000, ann))
	}
	taught := make(chan error, 1)
	go func() {
		for _, label := range []string{"ham", "spam"} {
			if _, err := n.try("", "spam", "learn", label, filepath.Join(dir, label), "--account", ann, "--wait"); err != nil {
				taught <- err
				return
			}
		}
		taught <- nil
	}()
	sendAll(t, n.at("smtp"), 4, mails)
	if err := <-taught; err != nil {
		t.Fatal(err)
	}
	if l := n.learned(ann); l.Ham != 80 || l.Spam != 80 || l.Waiting != 0 {
		t.Errorf("%+v", l)
	}
	v := ask()
	if v.Action != "junk" || v.Probability < 0.9 || len(v.Reasons) == 0 {
		t.Errorf("%+v", v)
	}
	n.checkInbox("ann", mails)
	n.stop()
	n.start()
	if after := ask(); after.Probability != v.Probability {
		t.Errorf("after a restart the probability is %v, it was %v", after.Probability, v.Probability)
	}
	n.command("", "spam", "policy", ann, "--junk", "1")
	if v := ask(); v.Action != "accept" {
		t.Errorf("with a policy that puts nothing aside: %+v", v)
	}
	result := n.command("", "spam", "evaluate", dir, "--seeds", "1")
	if !strings.Contains(string(result), `"ham":80`) {
		t.Errorf("evaluate says %s", result)
	}
	n.verify()
}
