package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"trivet/storage"
)

// CRAMSecretLength is what is stored for CRAM-MD5 of a password, in octets.
const CRAMSecretLength = 2 * md5.Size

// NewCRAMSecret returns what CRAM-MD5 (RFC 2195) needs to know of a password: the
// two states of MD5 after the padded key, as RFC 2104 section 4 suggests. It is
// as good as the password to whoever speaks CRAM-MD5, though not the password
// itself: keep it for accounts that need it only.
func NewCRAMSecret(password string) ([]byte, error) {
	if len(password) > MaxPasswordLength {
		return nil, ErrPasswordTooLong
	}
	key := make([]byte, md5.BlockSize)
	if len(password) > md5.BlockSize {
		sum := md5.Sum([]byte(password))
		copy(key, sum[:])
	} else {
		copy(key, password)
	}
	var secret []byte
	for _, pad := range []byte{0x36, 0x5c} {
		block := bytes.Clone(key)
		for i := range block {
			block[i] ^= pad
		}
		h := md5.New()
		h.Write(block)
		state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("state of MD5: %w", err)
		}
		secret = append(secret, state[len(md5State):][:md5.Size]...)
	}
	return secret, nil
}

// md5State begins what crypto/md5 marshals its state to: then come the 4 words
// of the chaining value, a block of input that waits, and the octets so far.
const md5State = "md5\x01"

// cramDigest is HMAC-MD5 of a challenge under a secret of NewCRAMSecret.
func cramDigest(secret, challenge []byte) ([]byte, error) {
	inner, err := resumeMD5(secret[:md5.Size], challenge)
	if err != nil {
		return nil, err
	}
	return resumeMD5(secret[md5.Size:], inner)
}

func resumeMD5(chaining, rest []byte) ([]byte, error) {
	state := append([]byte(md5State), chaining...)
	state = append(state, make([]byte, md5.BlockSize)...)
	state = binary.BigEndian.AppendUint64(state, md5.BlockSize)
	h := md5.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		return nil, fmt.Errorf("state of MD5: %w", err)
	}
	h.Write(rest)
	return h.Sum(nil), nil
}

// cramChallenge sends a challenge that was never sent before (RFC 2195 section 2).
func cramChallenge(_ *Exchange, response []byte) ([]byte, step, error) {
	if len(response) > 0 {
		return nil, nil, ErrMalformed // the server speaks first
	}
	var random [16]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	challenge := []byte("<" + hex.EncodeToString(random[:]) + "@trivet>")
	return challenge, cramResponse(challenge), nil
}

// cramResponse takes the user name and the digest of the challenge. An account
// without CRAM-MD5 is like one that does not exist.
func cramResponse(challenge []byte) step {
	return func(e *Exchange, response []byte) ([]byte, step, error) {
		i := bytes.LastIndexByte(response, ' ')
		if i < 0 {
			return nil, nil, ErrMalformed
		}
		cred, err := e.auth.lookup(e.ctx, string(response[:i]))
		if err != nil {
			return nil, nil, err
		}
		secret := cred.CRAM
		if len(secret) != CRAMSecretLength {
			secret = keyed(e.auth.secret, "cram", cred.user)
			cred.known = false
		}
		want, err := cramDigest(secret, challenge)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		got, err := hex.DecodeString(strings.ToLower(string(response[i+1:])))
		if err != nil {
			return nil, nil, ErrMalformed
		}
		e.identity, err = e.auth.guess(e.ctx, e.channel, cred, func() (storage.AppPassword, bool) {
			return storage.AppPassword{}, hmac.Equal(got, want)
		})
		return nil, nil, err
	}
}
