package spam

import (
	"io"
	"net/netip"
	"strings"
	"time"

	"trivet/storage/message"
)

// Message is what checks see. It is shared by all of them: nothing in it may be changed.
type Message struct {
	// Who brought it. Texts are as they came, empty where there is nothing.
	IP            netip.Addr // zero: not known
	Helo          string
	Reverse       string // the client's name that leads back to its address (iprev)
	ReverseResult string // pass, fail, permerror (there is none), temperror; empty: not looked for
	TLS           bool
	MailFrom      string // without <>; empty: the null sender

	Authentication // what was proven

	// Quarantined: the policy of the author's domain (DMARC) asks for the message to be put aside.
	Quarantined bool

	// The message as it is going to be stored, but for the field that says what was found: with our own
	// Return-Path, Received and Authentication-Results in front.
	Header    []byte            // with its empty line; at least the first 1 MiB
	Structure *message.Message  // offsets are those of Raw
	Raw       io.ReaderAt       // all octets; safe for concurrent use
	Author    []message.Address // the mailboxes of From

	ID         string // of the transaction, as the reply and the Received field name it
	Received   time.Time
	Recipients []Recipient
	// Trial: somebody only asks what would become of it. Checks remember nothing of it, and ask nobody who would.
	Trial bool
}

// Authentication is what was proven of the sender, in the words of RFC 8601.
type Authentication struct {
	SPF     string // of MailFrom: pass, fail, softfail, neutral, none, temperror, permerror; empty: not checked
	HeloSPF string
	DKIM    []Signature
	DMARC   string // pass, fail, none, temperror, permerror; empty: not checked
	Policy  string // what the author's domain wants: none, quarantine, reject
	ARC     string // none, pass, fail
	// Domain is the author's domain when DMARC passes, else empty: the one name in the message that is
	// nobody else's. SPFAligned tells that SPF passed for it, so the client is one of its servers.
	Domain       string
	Organization string // the organisational domain of Domain
	SPFAligned   bool
	DKIMAligned  bool
}

// Signature is a DKIM signature and what became of it.
type Signature struct{ Domain, Result string }

// Recipient is an account that gets the message; Account 0 stands for those elsewhere to whom
// it is forwarded.
type Recipient struct {
	Account int64
	Address string // canonical; empty for Account 0
}

// Sender is the address of the first author in lower case, else the reverse path; empty: neither.
func (m *Message) Sender() string {
	if len(m.Author) > 0 && m.Author[0].Host != "" {
		return strings.ToLower(m.Author[0].Addr())
	}
	return strings.ToLower(m.MailFrom)
}

// Field returns the unfolded value of the first field with a name; empty: there is none.
func (m *Message) Field(name string) string {
	value, _ := message.FindHeader(m.Header, name)
	return value
}

// Authors reads the mailboxes of From.
func Authors(header []byte) []message.Address {
	var found []message.Address
	for _, value := range message.AllHeaders(header, "From") {
		for _, a := range message.ParseAddressList(value) {
			if a.Kind == message.Mailbox && len(found) < maxAuthors {
				found = append(found, a)
			}
		}
	}
	return found
}

// maxAuthors bounds the mailboxes of From that are looked at.
const maxAuthors = 8
