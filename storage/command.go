package storage

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// kind names what a command does. Numbers are part of the log's format: never
// reuse one.
type kind uint16

const (
	// Below kindCreateMailbox: the directory's.
	kindCreateDomain     kind = 1
	kindRemoveDomain     kind = 2
	kindCreateAccount    kind = 3
	kindRemoveAccount    kind = 4
	kindSetPassword      kind = 5
	kindSetDisabled      kind = 6
	kindSetQuota         kind = 7
	kindCreateAlias      kind = 8
	kindRemoveAlias      kind = 9
	kindCreateMailbox    kind = 16
	kindDeleteMailbox    kind = 17
	kindRenameMailbox    kind = 18
	kindSubscribe        kind = 19
	kindClaimRecent      kind = 20
	kindSetRights        kind = 21
	kindAnnotate         kind = 22
	kindPutPart          kind = 32
	kindDeliver          kind = 33
	kindAppend           kind = 34
	kindStoreFlags       kind = 35
	kindCopy             kind = 36
	kindMove             kind = 37
	kindExpunge          kind = 38
	kindAppendAll        kind = 39
	kindForget           kind = 48
	kindSetSetting       kind = 64
	kindCreateInvitation kind = 65
	kindUseInvitation    kind = 66
	kindAudit            kind = 67
	kindCollect          kind = 49
	kindRollPack         kind = 50

	// Of submission, addresses, limits and bans: 96 to 111.
	kindAddAppPassword    kind = 96
	kindRemoveAppPassword kind = 97
	kindAddDKIMKey        kind = 98
	kindActivateDKIMKey   kind = 99
	kindRemoveDKIMKey     kind = 100
	kindSetGroup          kind = 101
	kindRemoveGroup       kind = 102
	kindSetDomainPolicy   kind = 103
	kindSetForward        kind = 104
	kindSetVacation       kind = 105
	lastDirectoryKind     kind = 105 // those from 96 to here change the directory; see ofDirectory

	kindSetSubmissionLimit kind = 106
	kindAddBan             kind = 107
	kindLiftBan            kind = 108
	kindPruneBans          kind = 109
	kindRememberLogins     kind = 110

	kindCreateWebSession kind = 160
	kindTouchWebSession  kind = 161
	kindEndWebSessions   kind = 162
	kindSetFactor        kind = 170
	kindUseFactor        kind = 171
	kindPending          kind = 172
	kindSaveQuery        kind = 174
	kindRemoveSavedQuery kind = 175

	kindPutCertificateFile     kind = 176
	kindDeleteCertificateFiles kind = 177
	kindLockCertificates       kind = 178
	kindUnlockCertificates     kind = 179
)

// commandFormat is the first octet of every command: the layout of its head.
const commandFormat = 1

// maxRequestID bounds the request id of a command, in octets.
const maxRequestID = 32

// command is one decision as the log carries it.
type command struct {
	kind    kind
	version uint8  // of the body's layout, for this kind; see layered
	request []byte // identifies the request; the same id is applied once
	at      int64  // when it was decided, Unix milliseconds, by the proposer's clock
	body    []byte // CBOR
}

// Log bodies come from the network in a cluster: nothing in them may make a
// decoder allocate more than their own size.
var (
	commandEncoding = mustEncoding()
	commandDecoding = mustDecoding()
)

func mustEncoding() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}

func mustDecoding() cbor.DecMode {
	m, err := cbor.DecOptions{MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 10, MaxNestedLevels: 8}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}

// encodeCommand lays a command out for the log. An empty request id gets a random one.
func encodeCommand(k kind, request []byte, at int64, body any) ([]byte, error) {
	if len(request) == 0 {
		request = make([]byte, 16)
		rand.Read(request)
	}
	encoded, err := commandEncoding.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode command %d: %w", k, err)
	}
	b := make([]byte, 0, len(encoded)+len(request)+24)
	b = append(b, commandFormat)
	b = binary.AppendUvarint(b, uint64(k))
	b = append(b, layoutOf(body), byte(len(request)))
	b = append(b, request...)
	b = binary.AppendVarint(b, at)
	return append(b, encoded...), nil
}

var errMalformedCommand = errors.New("malformed command")

// decodeCommand reads the head of a command; the body keeps pointing into b.
func decodeCommand(b []byte) (command, error) {
	var c command
	if len(b) == 0 || b[0] != commandFormat {
		return c, errMalformedCommand
	}
	b = b[1:]
	k, n := binary.Uvarint(b)
	if n <= 0 || k > 0xffff || len(b) < n+2 {
		return c, errMalformedCommand
	}
	c.kind, c.version = kind(k), b[n]
	size := int(b[n+1])
	b = b[n+2:]
	if size == 0 || size > maxRequestID || len(b) < size {
		return c, errMalformedCommand
	}
	c.request, b = b[:size:size], b[size:]
	c.at, n = binary.Varint(b)
	if n <= 0 {
		return c, errMalformedCommand
	}
	c.body = b[n:]
	return c, nil
}

// An answer is what apply says of a command: one octet, then CBOR. The kind of
// error is the octet, so that answers cross the network between nodes later.
const (
	answerOK       = 0xff
	answerRepeated = 0xfe // the request had been applied before; this is its answer of then
)

func encodeAnswer(value any) ([]byte, error) {
	if value == nil {
		return []byte{answerOK}, nil
	}
	b, err := commandEncoding.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return append([]byte{answerOK}, b...), nil
}

type refusal struct {
	Op   string `cbor:"1,keyasint,omitempty"`
	Hint string `cbor:"2,keyasint,omitempty"`
}

func encodeRefusal(e *Error) ([]byte, error) {
	b, err := commandEncoding.Marshal(refusal{Op: e.Op, Hint: e.Hint})
	if err != nil {
		return nil, fmt.Errorf("encode refusal: %w", err)
	}
	return append([]byte{byte(e.Kind)}, b...), nil
}

// decodeAnswer fills value, or returns the refusal as an [Error].
func decodeAnswer(b []byte, value any) error {
	if len(b) == 0 {
		return fail("read answer", KindInternal, "")
	}
	if b[0] != answerOK && b[0] != answerRepeated {
		var r refusal
		if err := commandDecoding.Unmarshal(b[1:], &r); err != nil {
			return &Error{Op: "read answer", Err: err}
		}
		return &Error{Op: r.Op, Kind: Kind(b[0]), Hint: r.Hint}
	}
	if value == nil || len(b) == 1 {
		return nil
	}
	if err := commandDecoding.Unmarshal(b[1:], value); err != nil {
		return &Error{Op: "read answer", Err: err}
	}
	return nil
}

// ofDirectory reports whether commands of this kind change who has what address, or what becomes of mail to it.
func (k kind) ofDirectory() bool {
	return k < kindCreateMailbox || k >= kindAddAppPassword && k <= lastDirectoryKind || k == kindSetFilters
}
