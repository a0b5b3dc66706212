package main

import (
	"context"
	"errors"
	"net"
	"testing"

	"trivet/auth"
	"trivet/storage"
)

// TestServiceAccount: a program has grants, a password and tokens, and nothing of mail.
func TestServiceAccount(t *testing.T) {
	ctx := context.Background()
	store, err := storage.Open(storage.Config{Dir: t.TempDir()})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	defer store.Close()
	store.Attach(storage.NewInstantLog(store.Machine()))
	_, err = store.CreateDomain(ctx, "example.org")
	must(err)
	verifier, err := auth.NewVerifier("correct horse")
	must(err)
	if _, err := store.CreateAccount(ctx, storage.NewAccount{Address: "both@example.org", Service: true, Admin: true}); storage.KindOf(err) != storage.KindInvalid {
		t.Errorf("an administrator: %v", err)
	}
	job, err := store.CreateAccount(ctx, storage.NewAccount{Address: "job@example.org", Service: true, Verifier: verifier})
	must(err)
	if boxes, err := store.Mailboxes(ctx, job.ID); err != nil || len(boxes) != 0 || !job.Service {
		t.Errorf("mailboxes %v, %v, %+v", boxes, err, job)
	}
	_, err = store.CreateAlias(ctx, "jobs@example.org", []string{job.Address})
	must(err)
	for _, address := range []string{"job@example.org", "job+x@example.org", "jobs@example.org"} {
		if r, err := store.Resolve(ctx, address); err != nil || r.Known() {
			t.Errorf("%s gets mail: %+v %v", address, r, err)
		}
	}
	a := auth.NewAuthenticator(store, auth.Config{})
	for service, want := range map[auth.Service]error{auth.ServiceSQL: nil, auth.ServiceIMAP: auth.ErrCredentials, auth.ServiceSubmission: auth.ErrCredentials, auth.ServiceWeb: auth.ErrCredentials, "": auth.ErrCredentials} {
		channel := auth.Channel{Remote: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, Secure: true, Service: service}
		if _, err := a.Password(ctx, channel, job.Address, "correct horse"); !errors.Is(err, want) {
			t.Errorf("%q: %v", service, err)
		}
		if want != nil {
			a = auth.NewAuthenticator(store, auth.Config{}) // its throttle has not been asked yet
		}
	}
	_, err = store.CreateDatabase(ctx, "shop", job.Address, 0)
	must(err)
	token, err := store.AddToken(ctx, job.Address, "t", 0)
	must(err)
	if who, err := store.AccountByToken(ctx, token); err != nil || who.ID != job.ID {
		t.Errorf("by token: %+v %v", who, err)
	}
}
