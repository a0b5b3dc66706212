package auth

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/xdg-go/scram"

	"trivet/storage"
)

// scramFirst takes client-first-message (RFC 5802 section 5) and answers with
// nonce, salt and iterations, of nobody's if need be.
func scramFirst(e *Exchange, response []byte) ([]byte, step, error) {
	if response == nil {
		return []byte{}, scramFirst, nil
	}
	kind, _ := bindingAsked(response)
	if kind != "" {
		return nil, nil, ErrMalformed // section 6: a binding needs the name with -PLUS
	}
	// A client that says "y" saw no -PLUS; where there is one, somebody took it
	// out of our offer, and the library refuses the client if it knows.
	binding, ok := e.channel.binding(bindingExporter)
	if !ok {
		binding, _ = e.channel.binding(bindingEndPoint)
	}
	return e.scramChallenge(string(response), binding)
}

// scramPlusFirst is scramFirst of a client that ties its login to the channel.
func scramPlusFirst(e *Exchange, response []byte) ([]byte, step, error) {
	if response == nil {
		return []byte{}, scramPlusFirst, nil
	}
	kind, _ := bindingAsked(response)
	binding, ok := e.channel.binding(kind)
	if !ok {
		return nil, nil, fmt.Errorf("%w: no such channel binding", ErrMalformed)
	}
	return e.scramChallenge(string(response), binding)
}

// bindingAsked returns the channel binding in a gs2-header (RFC 5802 section 7).
func bindingAsked(response []byte) (kind string, ok bool) {
	rest, ok := strings.CutPrefix(string(response), "p=")
	if !ok {
		return "", false
	}
	kind, _, ok = strings.Cut(rest, ",")
	return kind, ok
}

// scramAttempt is what the final message is checked against.
type scramAttempt struct {
	first   string
	nonce   string
	binding scram.ChannelBinding
	cred    credential
}

func (e *Exchange) scramChallenge(first string, binding scram.ChannelBinding) ([]byte, step, error) {
	var random [18]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	attempt := &scramAttempt{first: first, nonce: base64.StdEncoding.EncodeToString(random[:]), binding: binding}
	var lookup error
	conversation, challenge, err := attempt.begin(func(user string) (storage.Verifier, error) {
		if e.channel.User != "" {
			user = e.channel.User // PostgreSQL's drivers write nothing here, or *
		}
		attempt.cred, lookup = e.auth.lookup(e.ctx, user)
		return attempt.cred.verifier, lookup
	})
	switch {
	case lookup != nil:
		return nil, nil, lookup
	case err != nil:
		return nil, nil, ErrMalformed
	case !actsAsSelf(conversation.AuthzID(), cmp.Or(e.channel.User, conversation.Username())):
		return nil, nil, ErrCredentials
	}
	return []byte(challenge), attempt.final, nil
}

// begin runs the first half of a conversation. It gives the same challenge each
// time for the same salt.
func (s *scramAttempt) begin(find func(user string) (storage.Verifier, error)) (*scram.ServerConversation, string, error) {
	server, err := scram.SHA256.NewServer(func(user string) (scram.StoredCredentials, error) {
		v, err := find(user)
		return stored(v), err
	})
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	conversation := server.WithNonceGenerator(func() string { return s.nonce }).NewConversationWithChannelBinding(s.binding)
	challenge, err := conversation.Step(s.first)
	return conversation, challenge, err
}

// final takes client-final-message and proves in turn that the server knows the
// password. Which of the account's passwords the client has is found by trying
// those of the salt it was told.
func (s *scramAttempt) final(e *Exchange, response []byte) ([]byte, step, error) {
	var proof string
	check := func() (storage.AppPassword, bool) {
		for _, candidate := range s.cred.candidates(e.channel.Service) {
			if !sameSalt(candidate.Verifier, s.cred.verifier) {
				continue
			}
			conversation, _, err := s.begin(func(string) (storage.Verifier, error) { return candidate.Verifier, nil })
			if err != nil {
				continue
			}
			answer, err := conversation.Step(string(response))
			if err == nil && conversation.Valid() {
				proof = answer
				return candidate, true
			}
		}
		return storage.AppPassword{}, false
	}
	id, err := e.auth.guess(e.ctx, e.channel, s.cred, check)
	if err != nil {
		return nil, nil, err
	}
	return []byte(proof), scramEnd(id), nil
}

// scramEnd takes the empty message with which the client accepts the server's proof.
func scramEnd(id Identity) step {
	return func(e *Exchange, response []byte) ([]byte, step, error) {
		if len(response) != 0 {
			return nil, nil, ErrMalformed
		}
		e.identity = id
		return nil, nil, nil
	}
}

func stored(v storage.Verifier) scram.StoredCredentials {
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(v.Salt), Iters: v.Iterations},
		StoredKey:  v.StoredKey,
		ServerKey:  v.ServerKey,
	}
}
