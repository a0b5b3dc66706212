package test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	cdpnetwork "github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/emersion/go-imap/v2"
)

// put puts messages into a mailbox of an account, the oldest first, one minute apart.
func (n *node) put(account, mailbox string, seen int, messages ...string) {
	n.t.Helper()
	c := n.dialIMAP(account)
	defer c.Close()
	at := time.Now().Add(-time.Duration(len(messages)) * 37 * time.Minute)
	for i, text := range messages {
		raw := strings.ReplaceAll(text, "\n", "\r\n")
		options := &imap.AppendOptions{Time: at.Add(time.Duration(i) * 37 * time.Minute)}
		if i < seen {
			options.Flags = []imap.Flag{imap.FlagSeen}
		}
		append := c.Append(mailbox, int64(len(raw)), options)
		if _, err := append.Write([]byte(raw)); err != nil {
			n.t.Fatal(err)
		}
		if err := append.Close(); err != nil {
			n.t.Fatal(err)
		}
		if _, err := append.Wait(); err != nil {
			n.t.Fatal(err)
		}
	}
}

// picture is a small PNG in Base64.
func picture(c color.Color) string {
	img := image.NewRGBA(image.Rect(0, 0, 240, 120))
	for y := range 120 {
		for x := range 240 {
			if (x/30+y/30)%2 == 0 {
				img.Set(x, y, c)
			} else {
				img.Set(x, y, color.White)
			}
		}
	}
	var b bytes.Buffer
	if png.Encode(&b, img) != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// correspondence is mail of different shapes for an inbox.
func correspondence(me string) []string {
	plain := func(from, subject, id, more, text string) string {
		return fmt.Sprintf("From: %s\nTo: Admin <%s>\nSubject: %s\nMessage-ID: <%s@mail.example>\n%sMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n%s\n", from, me, subject, id, more, text)
	}
	return []string{
		plain("Cinema Central <tickets@cinema.example>", "Your seats for Friday", "seats", "", "Two seats in row 7. Show this message at the entrance.\n\nScreen 2, 20:15\nhttps://cinema.example/t/8841"),
		plain("Priya Raman <priya@studio.example>", "Floor plan, second draft", "plan1", "", "Hi,\n\nthe second draft has the kitchen on the south side. What do you think of the window?\n\nPriya"),
		plain("Oskar Lindqvist <oskar@trail.example>", "Hut is booked", "hut", "", "Three nights from the 14th. I paid the deposit; you owe me a coffee.\n\nOskar"),
		plain("Priya Raman <priya@studio.example>", "Re: Floor plan, second draft", "plan3", "In-Reply-To: <plan2@mail.example>\nReferences: <plan1@mail.example> <plan2@mail.example>\n",
			"Moved it by half a metre, see the sketch at https://studio.example/plans/22 (valid for a week).\n\nOn Thursday you wrote:\n> Could the window be a little wider?\n> And the door to the garden?\n> It would be lovely\n> to have light in the morning.\n> Just a thought.\n\nYes, that works.\n\nPriya"),
		"From: Letters Weekly <news@letters.example>\nTo: " + me + "\nSubject: Seven essays for a slow Sunday\nMessage-ID: <news@mail.example>\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\nSeven essays\n--b\nContent-Type: text/html; charset=utf-8\n\n" +
			`<html><head><style>p{color:red}</style></head><body bgcolor="#ffffff"><table width="600" align="center"><tr><td style="padding:24px;font-family:Georgia,serif"><img src="https://tracker.example/open.gif?u=1" width="1" height="1"><h1 style="font-size:28px;margin:0 0 12px">Seven essays for a slow Sunday</h1><p style="color:#555555;line-height:1.6">On the history of marginalia, on walking without a map, and on why libraries smell the way they do. <a href="https://letters.example/1">Read them online</a>.</p><p><img src="https://letters.example/cover.jpg" alt="Cover of the issue" width="480"></p><blockquote>“A letter is a conversation with a delay.”</blockquote></td></tr></table></body></html>` + "\n--b--\n",
		"From: Jonas Weber <jonas@harbour.example>\nTo: " + me + "\nCc: Mara <mara@harbour.example>\nSubject: =?utf-8?q?Pictures_from_the_harbour_=E2=9A=93?=\nMessage-ID: <pics@mail.example>\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: multipart/related; boundary=r\n\n--r\nContent-Type: text/html; charset=utf-8\n\n" +
			`<p>Hello!</p><p>This is the one I meant:</p><p><img src="cid:boat" alt="The boat"></p><p>The others are attached. See you on Monday,<br>Jonas</p>` +
			"\n--r\nContent-Type: image/png\nContent-ID: <boat>\nContent-Disposition: inline\nContent-Transfer-Encoding: base64\n\n" + picture(color.RGBA{30, 110, 160, 255}) + "\n--r--\n--m\nContent-Type: image/png; name=\"harbour at dawn.png\"\nContent-Disposition: attachment; filename=\"harbour at dawn.png\"\nContent-Transfer-Encoding: base64\n\n" + picture(color.RGBA{200, 120, 40, 255}) +
			"\n--m\nContent-Type: application/pdf; name=\"../../Timetable.pdf\"\nContent-Disposition: attachment; filename=\"../../Timetable.pdf\"\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("timetable "), 900)) + "\n--m--\n",
		plain("Helen Brandt <helen@co-op.example>", "Invoice for November", "inv", "", "Dear all,\n\nplease find the amounts below. The total is due on the 30th.\n\nHelen Brandt\nCo-op bookkeeping"),
		plain("Oskar Lindqvist <oskar@trail.example>", "Snow forecast", "snow", "", "They say 40 cm by Thursday. Bring the skins."),
	}
}

// mailBrowser is a browser that is logged in, with mail of different shapes.
func mailBrowser(t *testing.T) (*node, *browser) {
	t.Helper()
	n, _ := newTLSNode(t, "--resolver", "off")
	me := "admin@" + domain
	n.command(password, "account", "add", "bob@"+domain, "--password-stdin")
	n.put("admin", "INBOX", 6, correspondence(me)...)
	n.put("admin", "Sent", 1, "From: "+me+"\nTo: Priya Raman <priya@studio.example>\nSubject: Re: Floor plan, second draft\nMessage-ID: <plan2@mail.example>\nIn-Reply-To: <plan1@mail.example>\nReferences: <plan1@mail.example>\n\nCould the window be a little wider?\n")
	n.put("admin", "Junk", 0, "From: Lucky Lottery <win@prize.example>\nTo: "+me+"\nSubject: You have won\nMessage-ID: <won@prize.example>\n\nClaim your prize now.\n")
	b := newBrowser(t, n)
	b.do("the size of a desk", chromedp.EmulateViewport(1280, 844)) // list and message stand side by side
	b.open("/mail")
	b.logIn(me, password)
	b.text("Snow forecast")
	return n, b
}

// follow clicks on the first link or button that says something.
func (b *browser) follow(text string) {
	b.t.Helper()
	b.do("click on "+text, chromedp.Click(`(//*[self::a or self::button][contains(normalize-space(.), "`+text+`") or @aria-label="`+text+`"][not(ancestor::details[not(@open)])][not(ancestor::dialog)])[1]`))
}

// key presses a key on the page.
func (b *browser) key(keys string) {
	b.t.Helper()
	b.do("press "+keys, chromedp.KeyEvent(keys))
}

// absent waits until the page says something no more.
func (b *browser) absent(what string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if text, err := chromedp.Run(b.ctx, chromedp.Text("main")); err == nil && !strings.Contains(text, what) {
			return
		}
	}
	b.t.Fatalf("the page still says %q", what)
}

// Somebody reads, answers, takes it back, sends, searches and sorts out spam, with the keyboard where that is quicker.
func TestBrowserMail(t *testing.T) {
	n, b := mailBrowser(t)
	b.shots("mail-list")
	b.follow("Pictures from the harbour")
	b.text("harbour at dawn.png")
	b.shots("mail-read")
	b.follow("Floor plan")
	b.text("Moved it by half a metre")
	b.text("Could the window be a little wider?") // what was sent belongs to the thread
	b.shots("mail-thread")
	b.follow("Seven essays")
	b.text("2 pictures from elsewhere are not loaded")
	b.shots("mail-html")
	b.key("k") // the thread above
	b.text("harbour at dawn.png")

	b.key("r")
	b.text("Attach files")
	b.shots("mail-write")
	b.do("write", chromedp.SetValue("#to", "bob@"+domain), chromedp.SendKeys("#text", "A fine boat."))
	b.text("Saved") // by itself
	n.wait("the draft", func() bool { return n.mailboxSize("admin", "Drafts") == 1 })
	b.do("send", chromedp.Click(`button[value=send]`))
	b.text("Sent in 10 seconds")
	b.follow("Undo")
	b.text("Taken back")
	b.do("send again", chromedp.Click(`button[value=send]`))
	b.text("Sent in 10 seconds")
	n.wait("the letter", func() bool { return n.mailboxSize("bob", "INBOX") == 1 })
	n.wait("what was sent", func() bool { return n.mailboxSize("admin", "Sent") == 2 && n.mailboxSize("admin", "Drafts") == 0 })

	b.open("/mail")
	n.put("admin", "INBOX", 0, "From: Late <late@far.example>\nSubject: Just arrived\n\nNews.\n")
	b.do("see it come by itself", chromedp.WaitVisible(`//main//a[contains(., "Just arrived")]`))
	b.key("j")
	b.key("!")
	b.text("1 marked as spam")
	b.absent("Just arrived")
	n.wait("junk", func() bool { return n.mailboxSize("admin", "Junk") == 2 })
	b.follow("Spam")
	b.text("You have won")
	b.follow("You have won")
	b.text("This is in the spam folder.")
	b.shots("mail-spam")
	b.do("say that it is no spam", chromedp.Click(`.reading button[value=notjunk]`))
	b.text("1 moved to the inbox")
	n.wait("no junk", func() bool { return n.mailboxSize("admin", "Junk") == 1 })

	b.key("/")
	b.do("search", chromedp.SetValue("#q", "from:priya window"), chromedp.SendKeys("#q", "\r"))
	b.text("Found: from:priya window")
	b.text("1–2 of 2")
	b.shots("mail-search")
	b.open("/mail/settings/filters")
	b.shots("mail-filters")
	b.open("/mail/settings/vacation")
	b.shots("mail-away")
}

// The same without any script.
func TestBrowserMailWithoutScript(t *testing.T) {
	n, b := mailBrowser(t)
	b.withoutScript()
	b.open("/mail")
	b.follow("Floor plan")
	b.text("Moved it by half a metre")
	b.follow("Reply to all")
	b.text("Attach files")
	b.do("write", chromedp.SetValue("#to", "bob@"+domain), chromedp.SetValue("#text", "Without script."), chromedp.Click(`button[value=save]`))
	n.wait("the draft", func() bool { return n.mailboxSize("admin", "Drafts") == 1 })
	b.do("send", chromedp.Click(`button[value=send]`))
	b.text("Sent in 10 seconds")
	b.follow("Undo")
	b.text("Taken back")
	b.do("send again", chromedp.Click(`button[value=send]`))
	n.wait("the letter", func() bool { return n.mailboxSize("bob", "INBOX") == 1 })
	b.open("/mail")
	b.do("choose and archive", chromedp.Click(`(//input[@name="sel"])[1]`), chromedp.Click(`button[value=archive]`))
	b.text("1 archived")
	n.wait("the archive", func() bool { return n.mailboxSize("admin", "Archive") == 1 })
	b.do("search", chromedp.SetValue("#q", "subject:hut"), chromedp.Submit("#q"))
	b.text("Hut is booked")
	b.open("/mail/settings/folders")
	b.do("make a folder", chromedp.SetValue("main form.stack [name=name]", "Projects"), chromedp.Click(`main button[value=create]`))
	b.text("Projects")
}

// mailboxSize is how many messages a mailbox has.
func (n *node) mailboxSize(account, mailbox string) uint32 {
	n.t.Helper()
	c := n.dialIMAP(account)
	defer c.Close()
	status, err := c.Status(mailbox, &imap.StatusOptions{NumMessages: true}).Wait()
	if err != nil {
		n.t.Fatal(err)
	}
	return *status.NumMessages
}

// Messages that mean no good leak nothing: the browser asks nobody but the node, whatever is opened.
func TestBrowserHostileMail(t *testing.T) {
	n, b := mailBrowser(t)
	names, err := filepath.Glob("../web/mail/testdata/hostile/*.eml")
	if err != nil || len(names) < 15 {
		t.Fatalf("%d hostile messages, %v", len(names), err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n.put("admin", "Archive", 0, string(data))
	}
	large := "From: a@x.example\nSubject: large\nContent-Type: text/html\n\n<p>seen</p>" + strings.Repeat("<p style=\"color:red\">words <img src=\"https://leak.example/x\"></p>\n", 70_000)
	n.put("admin", "Archive", 0, large)
	var mu sync.Mutex
	var strangers []string
	asked := 0
	if err := chromedp.Listen(b.ctx, func(event any) {
		sent, ok := event.(*cdpnetwork.EventRequestWillBeSent)
		if !ok {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		asked++
		if url := sent.Request.URL; !strings.HasPrefix(url, b.url+"/") && !strings.HasPrefix(url, "data:image/") && !strings.HasPrefix(url, "about:") {
			strangers = append(strangers, url)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(b.ctx, cdpnetwork.Enable, cdpnetwork.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	b.follow("Archive")
	b.text("13-text")
	box, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.pathname"))
	if err != nil {
		t.Fatal(err)
	}
	for uid := 1; uid <= len(names)+1; uid++ {
		b.open(fmt.Sprintf("%s/%d", box, uid))
		// The frames too: when all of the page is there, what it would fetch was asked for.
		if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool]("document.readyState === 'complete'")); err != nil {
			t.Fatal(err)
		}
		if here, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.pathname")); err != nil || !strings.HasPrefix(here, box) {
			t.Fatalf("message %d led to %s, %v", uid, here, err)
		}
	}
	b.shots("mail-hostile")
	mu.Lock()
	defer mu.Unlock()
	if len(strangers) > 0 || asked < 3*len(names) {
		t.Errorf("of %d requests these went elsewhere: %q", asked, strangers)
	}
}
