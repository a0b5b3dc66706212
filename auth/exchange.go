package auth

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// The SASL mechanisms.
const (
	MechanismSCRAMPlus = "SCRAM-SHA-256-PLUS" // RFC 7677 with channel binding: needs TLS
	MechanismSCRAM     = "SCRAM-SHA-256"      // RFC 7677
	MechanismPlain     = "PLAIN"              // RFC 4616: only on a secure channel
	MechanismLogin     = "LOGIN"              // draft-murchison-sasl-login: only on a secure channel
	MechanismCRAM      = "CRAM-MD5"           // RFC 2195: only for accounts that have it switched on
)

// MaxMessageLength is the most octets a client may send in one message of an
// exchange: user name, password and what SCRAM puts around them.
const MaxMessageLength = 4096

// Mechanisms returns what to offer on a channel, best first.
func (a *Authenticator) Mechanisms(ctx context.Context, c Channel) []string {
	var offered []string
	if c.bound() {
		offered = append(offered, MechanismSCRAMPlus)
	}
	offered = append(offered, MechanismSCRAM)
	if a.directory.OffersCRAM(ctx) {
		offered = append(offered, MechanismCRAM)
	}
	if c.Secure {
		offered = append(offered, MechanismPlain, MechanismLogin)
	}
	return offered
}

// Exchange is one attempt to log in by SASL (RFC 4422). It is a sasl.Server of
// go-sasl, for one goroutine. A nil response to the first Next means that the
// client sent no initial response.
type Exchange struct {
	auth     *Authenticator
	ctx      context.Context // of the session: the interface of go-sasl has none
	channel  Channel
	step     step
	identity Identity
}

// step takes one message of the client and returns the answer and what comes next; nil: it is over.
type step func(e *Exchange, response []byte) (challenge []byte, next step, err error)

// Start begins an attempt with a mechanism, whatever its case. ctx bounds the
// whole of it. [ErrMechanism]: there is no such mechanism; [ErrInsecure]: not on
// this channel.
func (a *Authenticator) Start(ctx context.Context, mechanism string, c Channel) (*Exchange, error) {
	e := &Exchange{auth: a, ctx: ctx, channel: c}
	switch strings.ToUpper(mechanism) {
	case MechanismPlain:
		e.step = plainMessage
	case MechanismLogin:
		e.step = loginUser
	case MechanismSCRAM:
		e.step = scramFirst
	case MechanismSCRAMPlus:
		if !c.bound() {
			return nil, ErrMechanism
		}
		e.step = scramPlusFirst
	case MechanismCRAM:
		e.step = cramChallenge
	default:
		return nil, ErrMechanism
	}
	switch strings.ToUpper(mechanism) {
	case MechanismPlain, MechanismLogin:
		if !c.Secure {
			return nil, ErrInsecure
		}
	}
	return e, nil
}

// Next takes what the client sent. After done the identity is known; after an
// error the exchange is over.
func (e *Exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	if e.step == nil {
		return nil, false, fmt.Errorf("%w: the exchange is over", ErrMalformed)
	}
	challenge, next, err := e.take(response)
	e.step = next
	if err != nil {
		e.step = nil
		e.auth.observe(outcome(err))
		return nil, false, err
	}
	if next == nil {
		e.auth.observe(OutcomeSuccess)
	}
	return challenge, next == nil, nil
}

func (e *Exchange) take(response []byte) ([]byte, step, error) {
	if len(response) > MaxMessageLength {
		return nil, nil, fmt.Errorf("%w: longer than %d octets", ErrMalformed, MaxMessageLength)
	}
	return e.step(e, response)
}

// Identity returns who logged in; it is zero before Next said done.
func (e *Exchange) Identity() Identity {
	if e.step != nil {
		return Identity{}
	}
	return e.identity
}

// plainMessage takes [authzid] NUL authcid NUL passwd (RFC 4616 section 2).
func plainMessage(e *Exchange, response []byte) ([]byte, step, error) {
	if response == nil {
		return []byte{}, plainMessage, nil
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return nil, nil, ErrMalformed
	}
	authz, user, password := string(parts[0]), string(parts[1]), string(parts[2])
	if !actsAsSelf(authz, user) {
		return nil, nil, ErrCredentials
	}
	var err error
	e.identity, err = e.auth.password(e.ctx, e.channel, user, password)
	return nil, nil, err
}

// loginUser takes the user name of LOGIN, which some clients send at once.
func loginUser(e *Exchange, response []byte) ([]byte, step, error) {
	if response == nil {
		return []byte("Username:"), loginUser, nil
	}
	return []byte("Password:"), loginPassword(string(response)), nil
}

func loginPassword(user string) step {
	return func(e *Exchange, response []byte) ([]byte, step, error) {
		var err error
		e.identity, err = e.auth.password(e.ctx, e.channel, user, string(response))
		return nil, nil, err
	}
}

// actsAsSelf reports whether the authorization identity, when there is one, is
// that of the user: nobody acts for somebody else.
func actsAsSelf(authz, user string) bool {
	return authz == "" || canonical(authz) == canonical(user)
}
