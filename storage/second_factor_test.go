package storage

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"
)

func wantKind(t *testing.T, what string, err error, kind Kind) {
	t.Helper()
	if err == nil || KindOf(err) != kind {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

func TestSecondFactor(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	account := f.account("ann@example.org")
	codes := [][sha256.Size]byte{sha256.Sum256([]byte("one")), sha256.Sum256([]byte("two"))}
	login := sha256.Sum256([]byte("browser"))
	begin := func() {
		f.must(f.PutPending(ctx, Pending{Hash: login, Purpose: PendingLogin, Account: account.ID}, time.Minute))
	}
	apart := func() bool {
		cred, err := f.Credentials(ctx, "ann@example.org")
		f.must(err)
		return cred.Apart
	}
	wantKind(t, "codes without a factor", f.SetRecoveryCodes(ctx, account.ID, codes), KindInvalid)
	f.must(f.AddFactor(ctx, Factor{Account: account.ID, Kind: FactorTOTP, Name: "phone", Secret: []byte("key"), Counter: 7}, codes))
	wantKind(t, "the same name", f.AddFactor(ctx, Factor{Account: account.ID, Kind: FactorTOTP, Name: "phone"}, nil), KindExists)
	wantKind(t, "no name", f.AddFactor(ctx, Factor{Account: account.ID, Kind: FactorTOTP}, nil), KindInvalid)
	wantKind(t, "no such account", f.AddFactor(ctx, Factor{Account: 999, Kind: FactorTOTP, Name: "x"}, nil), KindNotFound)
	have, err := f.SecondFactor(ctx, account.ID)
	f.must(err)
	if len(have.Factors) != 1 || len(have.Codes) != 2 || have.OpenPassword || string(have.Factors[0].Secret) != "key" || !apart() {
		t.Fatalf("%+v, apart %v", have, apart())
	}
	id := have.Factors[0].ID
	wantKind(t, "no login under way", f.UseFactor(ctx, FactorUse{Account: account.ID, Login: login, Factor: id, Counter: 8}), KindNotFound)
	begin()
	wantKind(t, "the step of the beginning", f.UseFactor(ctx, FactorUse{Account: account.ID, Login: login, Factor: id, Counter: 7}), KindExists)
	f.must(f.UseFactor(ctx, FactorUse{Account: account.ID, Login: login, Factor: id, Counter: 8}))
	wantKind(t, "the login is over", f.UseFactor(ctx, FactorUse{Account: account.ID, Login: login, Factor: id, Counter: 9}), KindNotFound)
	begin()
	wantKind(t, "the same code again", f.UseFactor(ctx, FactorUse{Account: account.ID, Login: login, Factor: id, Counter: 8}), KindExists)
	f.must(f.UseFactor(ctx, FactorUse{Account: account.ID, Login: login, Code: codes[0]}))
	begin()
	wantKind(t, "the same recovery code again", f.UseFactor(ctx, FactorUse{Account: account.ID, Login: login, Code: codes[0]}), KindNotFound)
	f.clock.advance(2 * time.Minute)
	wantKind(t, "a login that expired", f.UseFactor(ctx, FactorUse{Account: account.ID, Login: login, Code: codes[1]}), KindNotFound)

	f.must(f.SetOpenPassword(ctx, account.ID, true))
	if apart() {
		t.Error("the choice has no effect")
	}
	f.must(f.SetOpenPassword(ctx, account.ID, false))
	f.must(f.AddFactor(ctx, Factor{Account: account.ID, Kind: FactorPasskey, Name: "key", Secret: []byte("{}")}, nil))
	have, err = f.SecondFactor(ctx, account.ID)
	f.must(err)
	for _, counter := range []int64{0, 0, 3} { // one that does not count, then one that does
		begin()
		f.must(f.UseFactor(ctx, FactorUse{Account: account.ID, Login: login, Factor: have.Factors[1].ID, Counter: counter}))
	}
	begin()
	wantKind(t, "a count that goes back", f.UseFactor(ctx, FactorUse{Account: account.ID, Login: login, Factor: have.Factors[1].ID}), KindExists)
	f.must(f.RemoveFactor(ctx, account.ID, id))
	if !apart() {
		t.Error("one factor is left")
	}
	f.must(f.RemoveFactors(ctx, account.ID))
	if have, err = f.SecondFactor(ctx, account.ID); err != nil || len(have.Factors)+len(have.Codes) != 0 || apart() {
		t.Errorf("after the last factor: %+v, %v", have, err)
	}
	wantKind(t, "none to remove", f.RemoveFactors(ctx, account.ID), KindNotFound)
}

func TestSecondFactorBounds(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	account := f.account("ann@example.org")
	for i := range MaxFactors {
		f.must(f.AddFactor(ctx, Factor{Account: account.ID, Kind: FactorTOTP, Name: fmt.Sprint(i)}, nil))
	}
	wantKind(t, "one too many", f.AddFactor(ctx, Factor{Account: account.ID, Kind: FactorTOTP, Name: "more"}, nil), KindTooLarge)
	wantKind(t, "too many codes", f.SetRecoveryCodes(ctx, account.ID, make([][sha256.Size]byte, MaxRecoveryCodes+1)), KindTooLarge)
	for i := range MaxWebPending + 5 {
		f.clock.advance(time.Second)
		f.must(f.PutPending(ctx, Pending{Hash: sha256.Sum256([]byte{byte(i)}), Purpose: PendingLogin, Account: account.ID}, time.Hour))
	}
	if _, err := f.Pending(ctx, sha256.Sum256([]byte{0}), PendingLogin); KindOf(err) != KindNotFound || err == nil {
		t.Errorf("the oldest of too many: %v", err)
	}
	last := sha256.Sum256([]byte{MaxWebPending + 4})
	if p, err := f.Pending(ctx, last, PendingLogin); err != nil || p.Account != account.ID {
		t.Errorf("the newest: %+v, %v", p, err)
	}
	if _, err := f.Pending(ctx, last, PendingTOTP); err == nil {
		t.Error("it is found for another purpose")
	}
	f.must(f.EndPending(ctx, last, PendingLogin))
	wantKind(t, "ended twice", f.EndPending(ctx, last, PendingLogin), KindNotFound)
	wantKind(t, "too much data", f.PutPending(ctx, Pending{Purpose: PendingTOTP, Data: make([]byte, MaxWebPendingData+1)}, time.Hour), KindTooLarge)

	f.must(f.CreateWebSession(ctx, last, WebSession{Account: account.ID}, time.Hour))
	f.must(f.RemoveAccount(ctx, "ann@example.org"))
	for _, table := range []string{"second_factor", "recovery_code", "second_factor_choice", "web_pending", "web_session"} {
		f.must(f.with(ctx, func(c *conn) error {
			if left, err := c.row("SELECT 1 FROM "+table, nil); err != nil || left {
				t.Errorf("%s after the account is gone: %v, %v", table, left, err)
			}
			return nil
		}))
	}
}
