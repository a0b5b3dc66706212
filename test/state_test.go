package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReplayOfTheWholeLog throws the state away and has the log make it again.
func TestReplayOfTheWholeLog(t *testing.T) {
	n := newNode(t, "ann", "bob")
	var mails []mail
	for i := range 60 {
		mails = append(mails, newMail(uint64(i), 500+i*i*200, []string{"ann", "bob"}[i%2]+"@"+domain))
	}
	sendAll(t, n.at("smtp"), 8, mails)
	n.command("", "alias", "add", "all@"+domain, "ann@"+domain, "bob@"+domain)
	n.command("", "account", "quota", "bob@"+domain, "--size", "1G")
	n.changeMailboxes("ann")
	n.stop()
	want := n.verify()
	if err := os.RemoveAll(filepath.Join(n.data, "state")); err != nil {
		t.Fatal(err)
	}
	got := n.verify() // replays it; a node that is started writes down what it is, and so changes the state
	if got.Checksum != want.Checksum || got.Messages != want.Messages {
		t.Errorf("replayed to %d messages, there were %d", got.Messages, want.Messages)
		for table, sum := range want.Tables {
			if got.Tables[table] != sum {
				t.Errorf("replayed to another table %s", table)
			}
		}
	}
	n.start()
	n.checkInbox("bob", mails)
}

// changeMailboxes exercises IMAP writes, so that the log has all kinds of commands.
func (n *node) changeMailboxes(account string) {
	n.t.Helper()
	out, err := exec.Command("python3", "-c", `
import imaplib, sys
host, port, user, password = sys.argv[1:]
c = imaplib.IMAP4(host, int(port))
c.login(user, password)
def ok(r):
    assert r[0] == 'OK', r
    return r[1]
ok(c.create('Work/2026'))
ok(c.select('INBOX'))
ok(c.store('1:4', '+FLAGS', r'(\Seen \Flagged $Forwarded)'))
ok(c.copy('1:3', 'Work/2026'))
ok(c.uid('MOVE', '5:6', 'Archive'))
ok(c.store('1:2', '+FLAGS', r'(\Deleted)'))
ok(c.expunge())
ok(c.append('Drafts', r'(\Draft)', None, b'Subject: draft\r\n\r\nlater'))
ok(c.rename('Work', 'Done'))
c.logout()
`, "127.0.0.1", port(n.listen["imap"]), account+"@"+domain, password).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		n.t.Skip("python3 is not installed")
	}
	if err != nil {
		n.t.Fatalf("imaplib: %v\n%s", err, out)
	}
}

// smallDisk mounts a file system of some size, or skips the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("needs the right to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill takes all the space that is left, but for spare octets.
func fill(t testing.TB, dir string, spare int64) (path string) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// What is free changes while mail comes in: take it in pieces.
	for piece, size := int64(fs.Bavail)*fs.Bsize-spare, int64(0); piece >= 4096; {
		if unix.Fallocate(int(f.Fd()), 0, size, piece) != nil {
			piece /= 2
			continue
		}
		size += piece
	}
	return path
}

// TestFullDisk fills the disk, with and without mail coming in meanwhile, and
// makes room again.
func TestFullDisk(t *testing.T) {
	for _, reserve := range []string{"8M", "0"} {
		t.Run("reserve "+reserve, func(t *testing.T) {
			disk := smallDisk(t, "400m")
			n := setUp(t, filepath.Join(disk, "data"))
			n.flags = []string{"--disk-reserve", reserve}
			n.start()
			t.Cleanup(n.stop)
			n.command(password, "account", "add", "ann@"+domain, "--password-stdin")

			var before, during, after []mail
			for i := range 30 {
				before = append(before, newMail(uint64(i), 20_000, "ann@"+domain))
				during = append(during, newMail(uint64(1000+i), 150_000, "ann@"+domain))
				after = append(after, newMail(uint64(2000+i), 20_000, "ann@"+domain))
			}
			sendAll(t, n.at("smtp"), 4, before)
			ballast := fill(t, disk, 0)
			n.refuses(during[0])
			n.checkInbox("ann", before) // readable all the while

			sent := make(chan struct{})
			go func() { // senders that come back until there is room
				defer close(sent)
				sendAll(t, n.at("smtp"), 4, during)
			}()
			time.Sleep(time.Second)
			if n.gone() {
				t.Fatalf("the node died of a full disk\n%s", n.tail())
			}
			os.Remove(ballast)
			<-sent
			sendAll(t, n.at("smtp"), 4, after)

			// The disk fills while mail comes in: the last octets go to whoever is first.
			var late []mail
			for i := range 400 {
				late = append(late, newMail(uint64(3000+i), 100_000, "ann@"+domain))
			}
			sent = make(chan struct{})
			go func() {
				defer close(sent)
				sendAll(t, n.at("smtp"), 4, late)
			}()
			for range 5 {
				time.Sleep(100 * time.Millisecond)
				ballast = fill(t, disk, 1<<20)
				time.Sleep(300 * time.Millisecond)
				os.Remove(ballast)
			}
			<-sent
			if n.gone() {
				t.Fatalf("the node died of a full disk\n%s", n.tail())
			}
			n.checkInbox("ann", append(append(append(before, during...), after...), late...))
			n.verify()
			n.stop()
			n.start()
			n.verify()
		})
	}
}

// refuses waits until the node answers a message with 452, the reply that tells
// a sender to come back when there is room.
func (n *node) refuses(m mail) {
	n.t.Helper()
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		c, err := dialSMTP(n.at("smtp"))
		if err != nil {
			last = err
			continue
		}
		err = c.send(m)
		c.close()
		var reply *textproto.Error
		if errors.As(err, &reply) && reply.Code == 452 {
			return
		}
		if last = err; err == nil {
			n.t.Fatal("a full disk took a message")
		}
	}
	n.t.Fatalf("a full disk is never answered with 452: %v\n%s", last, n.tail())
}

// damage changes one octet of every body where it lies, while the node is stopped.
func (n *node) damage() {
	n.t.Helper()
	packs, err := filepath.Glob(filepath.Join(n.data, "state", "packs", "*.db"))
	if err != nil || len(packs) == 0 {
		n.t.Fatal("no packs", err)
	}
	out, err := exec.Command("python3", "-c", `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
for i, d in c.execute("SELECT id, data FROM chunk").fetchall():
    b = bytearray(d); b[len(b)//2] ^= 1
    c.execute("UPDATE chunk SET data=? WHERE id=?", (bytes(b), i))
c.commit()
`, packs[0]).CombinedOutput()
	if err != nil {
		n.t.Skipf("needs python3 with sqlite3: %v %s", err, out)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	n := newNode(t, "ann")
	sendAll(t, n.at("smtp"), 1, []mail{newMail(1, 50_000, "ann@"+domain)})
	n.stop()
	n.damage()
	got, err := n.try("", "verify")
	var v verification
	if jerr := json.Unmarshal(got, &v); err == nil || jerr != nil || v.OK || len(v.Problems) != 1 {
		t.Fatalf("verify of a damaged body: %v, %s", err, fmt.Sprint(v))
	}
}
