package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net"
	"strings"
	"time"
)

// Parts of a token. Its secret is random octets and the seal of the authority on them.
const (
	tokenPrefix   = "trivet-join-1."
	randomBytes   = 16
	sealBytes     = 16
	secretBytes   = randomBytes + sealBytes
	checksumBytes = 4
	maxAddresses  = 9   // of nodes in a token
	maxAddress    = 255 // octets of HOST:PORT
	maxToken      = 4096
)

// token is what an invitation hands to who joins: where the cluster is, how to
// know it, and the secret that lets one node in.
type token struct {
	addresses []string // HOST:PORT of nodes
	authority [sha256.Size]byte
	secret    [secretBytes]byte
	expires   time.Time
}

// newSecret makes a secret that only this authority can have made.
func (a authority) newSecret() (secret [secretBytes]byte, err error) {
	rand.Read(secret[:randomBytes]) // never fails, see crypto/rand
	seal, err := a.seal(secret[:randomBytes])
	copy(secret[randomBytes:], seal)
	return secret, err
}

// made reports whether this authority made the secret.
func (a authority) made(secret []byte) bool {
	if len(secret) != secretBytes {
		return false
	}
	seal, err := a.seal(secret[:randomBytes])
	return err == nil && hmac.Equal(seal, secret[randomBytes:])
}

// String is one word without characters that mean something to a shell.
func (t token) String() string {
	var b bytes.Buffer
	b.Write(t.authority[:])
	b.Write(t.secret[:])
	b.Write(binary.BigEndian.AppendUint64(nil, uint64(t.expires.Unix())))
	for _, address := range t.addresses {
		b.WriteByte(byte(len(address)))
		b.WriteString(address)
	}
	sum := sha256.Sum256(b.Bytes())
	b.Write(sum[:checksumBytes])
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b.Bytes())
}

// parseToken reads a token that somebody copied.
func parseToken(text string) (token, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok {
		return token{}, usagef("this is no token: one begins with %q; 'trivet cluster invite' on a running node prints it", tokenPrefix)
	}
	if len(encoded) > maxToken {
		return token{}, errDamagedToken()
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	const fixed = sha256.Size + secretBytes + 8
	if err != nil || len(data) < fixed+checksumBytes {
		return token{}, errDamagedToken()
	}
	body, sum := data[:len(data)-checksumBytes], data[len(data)-checksumBytes:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:checksumBytes]) {
		return token{}, errDamagedToken()
	}
	var t token
	copy(t.authority[:], body)
	copy(t.secret[:], body[sha256.Size:])
	t.expires = time.Unix(int64(binary.BigEndian.Uint64(body[sha256.Size+secretBytes:])), 0)
	if t.addresses, ok = tokenAddresses(body[fixed:]); !ok {
		return token{}, errDamagedToken()
	}
	return t, nil
}

func tokenAddresses(data []byte) (addresses []string, ok bool) {
	for len(data) > 0 {
		n := int(data[0])
		if n > len(data)-1 || len(addresses) == maxAddresses {
			return nil, false
		}
		address := string(data[1 : 1+n])
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, false
		}
		addresses, data = append(addresses, address), data[1+n:]
	}
	return addresses, len(addresses) > 0
}

func errDamagedToken() error {
	return usagef("the token is damaged: copy all of it, or make a new one with 'trivet cluster invite'")
}
