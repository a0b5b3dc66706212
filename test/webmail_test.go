package test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
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
	b.open("/mail")
	b.logIn(me, password)
	b.text("Snow forecast")
	return n, b
}

// noScript switches scripts off or on.
func (b *browser) noScript(off bool) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: off}); err != nil {
		b.t.Fatal(err)
	}
}

// follow clicks on the first link or button that says something.
func (b *browser) follow(text string) {
	b.t.Helper()
	b.do("click on "+text, chromedp.Click(`(//*[self::a or self::button][contains(normalize-space(.), "`+text+`") or @aria-label="`+text+`"])[1]`))
}

// Somebody reads, answers, takes it back, sends, searches and sorts out spam.
func TestBrowserMail(t *testing.T) {
	_, b := mailBrowser(t)
	b.shots("mail-list")
	b.follow("Pictures from the harbour")
	b.text("harbour at dawn.png")
	b.shots("mail-read")
	b.follow("Floor plan")
	b.text("Moved it by half a metre")
	b.shots("mail-thread")
	b.follow("Seven essays")
	b.text("are not loaded")
	b.shots("mail-html")
	b.open("/mail/compose")
	b.shots("mail-write")
	b.open("/mail/search?q=" + "window")
	b.text("Floor plan")
	b.shots("mail-search")
	b.open("/mail/settings/filters")
	b.shots("mail-filters")
	b.open("/mail/settings/vacation")
	b.shots("mail-away")
}
