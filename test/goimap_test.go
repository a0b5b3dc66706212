package test

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// testGoIMAP is a round with the client of go-imap/v2: list, append, read, flag, search, copy, move, idle,
// and again over another connection when the first is cut.
func testGoIMAP(t *testing.T, d *demo) {
	bob := d.Accounts[1]
	g := &goIMAP{t: t, d: d, who: bob, told: make(chan uint32, 16)}
	c := g.connect()
	g.check("create", c.Create("Go/Ärger", nil).Wait())
	g.check("subscribe", c.Subscribe("Go/Ärger").Wait())
	boxes, err := c.List("", "Go/*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true, UIDNext: true}, ReturnSubscribed: true}).Collect()
	if err != nil || len(boxes) != 1 || boxes[0].Mailbox != "Go/Ärger" || *boxes[0].Status.NumMessages != 0 || boxes[0].Status.UIDNext != 1 {
		t.Fatalf("LIST: %+v %v", boxes, err)
	}
	message := oddMessage("go-imap", bob.Address)
	date := time.Date(2017, 7, 14, 2, 40, 0, 0, time.UTC)
	for range 3 {
		g.append(c, "Go/Ärger", message, &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDraft, "k1"}, Time: date})
	}
	box, err := c.Select("Go/Ärger", &imap.SelectOptions{CondStore: true}).Wait()
	if err != nil || box.NumMessages != 3 || box.UIDNext != 4 || box.HighestModSeq == 0 {
		t.Fatalf("SELECT: %+v %v", box, err)
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	part := &imap.FetchItemBodySection{Specifier: imap.PartSpecifierText, Peek: true, Partial: &imap.SectionPartial{Offset: 1, Size: 4}}
	got, err := c.Fetch(imap.UIDSetNum(2), &imap.FetchOptions{UID: true, Flags: true, Envelope: true, InternalDate: true, RFC822Size: true, ModSeq: true,
		BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, BodySection: []*imap.FetchItemBodySection{whole, part}}).Collect()
	if err != nil || len(got) != 1 {
		t.Fatalf("FETCH: %v", err)
	}
	_, body, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	if m := got[0]; !bytes.Equal(m.FindBodySection(whole), message) || !bytes.Equal(m.FindBodySection(part), body[1:5]) || m.RFC822Size != int64(len(message)) ||
		!m.InternalDate.Equal(date) || m.Envelope.Subject != "go-imap" || m.ModSeq == 0 {
		t.Errorf("FETCH: %+v", m)
	}
	g.check("STORE", c.Store(imap.UIDSetNum(2), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Close())
	g.check("conditional STORE", c.Store(imap.UIDSetNum(3), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagSeen}},
		&imap.StoreOptions{UnchangedSince: box.HighestModSeq}).Close())
	g.finds(c, "2", &imap.SearchCriteria{Flag: []imap.Flag{imap.FlagFlagged, "k1"}})
	g.finds(c, "1:2", &imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagSeen}, Body: []string{"the END"}})
	g.finds(c, "2:3", &imap.SearchCriteria{ModSeq: &imap.SearchCriteriaModSeq{ModSeq: box.HighestModSeq + 1}})
	if copied, err := c.Copy(imap.UIDSetNum(1, 2), "Archive").Wait(); err != nil || copied.SourceUIDs.String() != "1:2" {
		t.Errorf("COPY: %+v %v", copied, err)
	}
	if moved, err := c.Move(imap.UIDSetNum(2), "Trash").Wait(); err != nil || moved.SourceUIDs.(imap.UIDSet).String() != "2" {
		t.Errorf("MOVE: %+v %v", moved, err)
	}
	g.idle(c, 3)

	// Cut: what was done is there, and a UID is never given twice.
	g.conn.Close()
	c = g.connect()
	again, err := c.Select("Go/Ärger", nil).Wait()
	if err != nil || again.UIDValidity != box.UIDValidity || again.UIDNext != 5 || again.NumMessages != 3 {
		t.Fatalf("SELECT after the cut: %+v %v", again, err)
	}
	g.check("STORE", c.Store(imap.UIDSetNum(1, 3, 4), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close())
	g.check("UID EXPUNGE", c.UIDExpunge(imap.UIDSetNum(1)).Close())
	g.finds(c, "3:4", &imap.SearchCriteria{})
	g.check("CLOSE", c.UnselectAndExpunge().Wait())
	g.check("RENAME", c.Rename("Go/Ärger", "Go/Neu", nil).Wait())
	g.check("DELETE", c.Delete("Go/Neu").Wait())
	g.check("LOGOUT", c.Logout().Wait())
}

// goIMAP connects, and hears of new messages.
type goIMAP struct {
	t    *testing.T
	d    *demo
	who  demoUser
	conn net.Conn
	told chan uint32
}

func (g *goIMAP) connect() *imapclient.Client {
	g.t.Helper()
	var err error
	if g.conn, err = net.DialTimeout("tcp", g.d.Listen["imap"], patience); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { g.conn.Close() })
	g.conn.SetDeadline(time.Now().Add(5 * patience))
	c := imapclient.New(g.conn, &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				g.told <- *data.NumMessages
			}
		},
	}})
	g.check("LOGIN", c.Login(g.who.Address, g.who.Password).Wait())
	return c
}

func (g *goIMAP) check(what string, err error) {
	g.t.Helper()
	if err != nil {
		g.t.Errorf("%s: %v", what, err)
	}
}

func (g *goIMAP) append(c *imapclient.Client, mailbox string, message []byte, options *imap.AppendOptions) {
	g.t.Helper()
	cmd := c.Append(mailbox, int64(len(message)), options)
	_, err := cmd.Write(message)
	g.check("the literal", err)
	g.check("its end", cmd.Close())
	_, err = cmd.Wait()
	g.check("APPEND", err)
}

func (g *goIMAP) finds(c *imapclient.Client, want string, criteria *imap.SearchCriteria) {
	g.t.Helper()
	found, err := c.UIDSearch(criteria, &imap.SearchOptions{ReturnAll: true}).Wait()
	if err != nil || found.All.String() != want {
		g.t.Errorf("SEARCH %+v finds %+v (%v), not %s", criteria, found, err, want)
	}
}

// idle waits, by IDLE, until Go/Ärger has so many messages, one more than it had.
func (g *goIMAP) idle(c *imapclient.Client, want uint32) {
	g.t.Helper()
	idle, err := c.Idle()
	if err != nil {
		g.t.Fatal(err)
	}
	g.d.dial(g.t, g.who, "INBOX").want("APPEND Go/&AMQ-rger {3+}\r\nx\r\n", "")
	for deadline := time.After(patience); ; {
		select {
		case n := <-g.told:
			if n != want {
				continue
			}
		case <-deadline:
			g.t.Error("IDLE told of nothing")
		}
		break
	}
	g.check("DONE", idle.Close())
	g.check("IDLE", idle.Wait())
}
