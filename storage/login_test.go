package storage

import (
	"fmt"
	"testing"
)

func TestLoginSecrets(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	a := f.account("alice@example.org")
	v := Verifier{Salt: []byte("salt"), Iterations: 4096, StoredKey: []byte("stored"), ServerKey: []byte("server")}
	if f.OffersCRAM(ctx) {
		t.Fatal("CRAM-MD5 is offered, and nobody has it")
	}
	f.must(f.SetPasswordCRAM(ctx, a.Address, v, []byte("secret")))
	f.must(f.AddAppPassword(ctx, a.Address, "phone", "", v))
	f.must(f.AddAppPassword(ctx, a.Address, "printer", "smtp", v))
	cr, err := f.Credentials(ctx, "ALICE@example.org")
	f.must(err)
	if string(cr.CRAM) != "secret" || len(cr.AppPasswords) != 2 || cr.AppPasswords[1].Scope != "smtp" || string(cr.AppPasswords[0].Verifier.Salt) != "salt" {
		t.Fatalf("credentials: %+v", cr)
	}
	if !f.OffersCRAM(ctx) {
		t.Fatal("CRAM-MD5 is not offered")
	}
	f.must(f.SetPassword(ctx, a.Address, v))
	if cr, err = f.Credentials(ctx, a.Address); err != nil || cr.CRAM != nil || len(cr.AppPasswords) != 2 || f.OffersCRAM(ctx) {
		t.Fatalf("after another password: %+v, %v", cr, err)
	}
	for _, refusal := range []struct {
		err  error
		want Kind
	}{
		{f.AddAppPassword(ctx, a.Address, "phone", "", v), KindExists},
		{f.AddAppPassword(ctx, "eve@example.org", "phone", "", v), KindNotFound},
		{f.AddAppPassword(ctx, a.Address, "", "", v), KindInvalid},
		{f.RemoveAppPassword(ctx, a.Address, "tablet"), KindNotFound},
		{f.RemoveAppPassword(ctx, "eve@example.org", "phone"), KindNotFound},
	} {
		if KindOf(refusal.err) != refusal.want {
			t.Errorf("%v, want %v", refusal.err, refusal.want)
		}
	}
	for i := range MaxAppPasswords - 2 {
		f.must(f.AddAppPassword(ctx, a.Address, fmt.Sprint(i), "", v))
	}
	if err := f.AddAppPassword(ctx, a.Address, "one too many", "", v); KindOf(err) != KindTooLarge {
		t.Errorf("over the limit: %v", err)
	}
	f.must(f.RemoveAppPassword(ctx, a.Address, "phone"))
	f.must(f.AddAppPassword(ctx, a.Address, "the last", "", v))
	f.must(f.RemoveAccount(ctx, a.Address))
	b := f.account("alice@example.org")
	if cr, err = f.Credentials(ctx, b.Address); err != nil || len(cr.AppPasswords) != 0 {
		t.Errorf("a new account of the name has %+v, %v", cr, err)
	}
	f.sound()
}
