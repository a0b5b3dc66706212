package imap

import (
	"errors"
	"fmt"

	"trivet/auth"
	"trivet/imap/wire"
	"trivet/storage"
)

// errAnswered says that a handler has written the tagged response itself.
var errAnswered = errors.New("imap: answered")

// status is how a command ended other than well: it becomes the tagged response.
type status struct {
	word string // NO or BAD
	code string // response code (RFC 9051 section 7.1, RFC 5530); may be empty
	text string
}

func (e *status) Error() string {
	if e.code == "" {
		return e.word + " " + e.text
	}
	return fmt.Sprintf("%s [%s] %s", e.word, e.code, e.text)
}

func no(code, text string) error { return &status{"NO", code, text} }

func bad(text string) error { return &status{"BAD", "", text} }

// uidRequired refuses sequence numbers (RFC 9586 section 3).
func uidRequired() error { return &status{"BAD", "UIDREQUIRED", "Use UIDs, as you asked to"} }

// storageStatus maps the kinds of storage's errors.
var storageStatus = map[storage.Kind]status{
	storage.KindInternal:    {"NO", "SERVERBUG", "Internal error; the server's log has it"},
	storage.KindNotFound:    {"NO", "NONEXISTENT", "No such mailbox"},
	storage.KindExists:      {"NO", "ALREADYEXISTS", "The mailbox exists already"},
	storage.KindInvalid:     {"NO", "CANNOT", "That is not possible"},
	storage.KindOverQuota:   {"NO", "OVERQUOTA", "Over quota"},
	storage.KindHasChildren: {"NO", "HASCHILDREN", "The mailbox has mailboxes below it"},
	storage.KindTooLarge:    {"NO", "LIMIT", "Over a limit of the server"},
	storage.KindUnavailable: {"NO", "UNAVAILABLE", "Not available now, nothing was changed; try again"},
	storage.KindUnknown:     {"NO", "UNAVAILABLE", "The outcome is not known; look before you try again"},
	storage.KindDiskFull:    {"NO", "UNAVAILABLE", "The server's disk is full, nothing was changed"},
	storage.KindNoQuorum:    {"NO", "UNAVAILABLE", "The cluster has no quorum, nothing was changed; try again"},
	storage.KindDenied:      {"NO", "NOPERM", "Not permitted"},
}

// authStatus maps auth's errors, first match.
var authStatus = []struct {
	err error
	status
}{
	{auth.ErrCredentials, status{"NO", "AUTHENTICATIONFAILED", "User name or password is wrong"}},
	{auth.ErrDisabled, status{"NO", "CONTACTADMIN", "The account is disabled"}},
	{auth.ErrThrottled, status{"NO", "LIMIT", "Too many failed logins; try again later"}},
	{auth.ErrUnavailable, status{"NO", "UNAVAILABLE", "Authentication is not available now; try again"}},
	{auth.ErrMalformed, status{"BAD", "", "Malformed authentication message"}},
	{auth.ErrInsecure, status{"NO", "PRIVACYREQUIRED", "Start TLS first"}},
	{auth.ErrMechanism, status{"NO", "CANNOT", "Unknown authentication mechanism"}},
}

// answer turns a handler's error into a response. ok is false for what is neither the client's
// doing nor storage's: it is logged, and answered as a defect.
func answer(err error) (st *status, ok bool) {
	var syntax *wire.SyntaxError
	var big *wire.TooBigError
	var stored *storage.Error
	switch {
	case errors.As(err, &st):
		return st, true
	case errors.As(err, &syntax):
		return &status{"BAD", "", syntax.Text}, true
	case errors.As(err, &big):
		return &status{"NO", "TOOBIG", fmt.Sprintf("The literal is larger than %d octets", big.Limit)}, true
	case errors.As(err, &stored):
		st, ok := storageStatus[stored.Kind]
		if !ok {
			st = storageStatus[storage.KindInternal]
		}
		return &st, ok && stored.Kind != storage.KindInternal
	}
	internal := storageStatus[storage.KindInternal]
	return &internal, false
}

// tryCreate is err, or TRYCREATE if it says that the mailbox to put a message into does not exist
// (RFC 9051 section 6.3.12).
func tryCreate(err error) error {
	if err != nil && storage.KindOf(err) == storage.KindNotFound {
		return no("TRYCREATE", "No such mailbox")
	}
	return err
}
