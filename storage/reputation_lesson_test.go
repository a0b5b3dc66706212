package storage

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

// What somebody teaches of a message counts for its author, if that is proven, and within the account's share.
func TestLessonsCountForReputation(t *testing.T) {
	f := newFixture(t)
	a := f.account("alice@example.org")
	raw := func(n int) []byte {
		return fmt.Appendf(nil, "From: Bea <Bea@mail.example.net>\r\nSubject: %d\r\n\r\nx\r\n", n)
	}
	teach := func(n int, proven, charged, unwanted bool) string {
		t.Helper()
		d := Delivery{Content: f.content(raw(n)), Transaction: sha256.Sum256([]byte{byte(n)}), Recipients: []int64{a.ID}, Received: f.clock.Now(), Trail: &Trail{}}
		d.Verdicts = []SpamVerdict{{Account: a.ID, Points: -1, Reasons: []SpamReason{{Name: "spf.none", Points: 1, Text: "x"}}}}
		if proven {
			d.Verdicts[0].Reasons = append(d.Verdicts[0].Reasons, SpamReason{Name: ReasonProven, Points: -1, Text: "it is from example.net"})
		}
		_, err := f.Deliver(t.Context(), d)
		f.must(err)
		hash := sha256.Sum256(raw(n))
		f.must(f.Train(t.Context(), Training{Labels: []LearnedItem{{Account: a.ID, Hash: hash[:SpamHashSize], Unwanted: unwanted, Shared: charged, Charged: charged}}}))
		list, err := f.ListReputations(t.Context(), "", 10)
		f.must(err)
		text := ""
		for _, r := range list {
			text += fmt.Sprintf("%s %s %.0f/%.0f ", r.Kind, r.Name, r.Wanted, r.Unwanted)
		}
		return text
	}
	for _, step := range []struct {
		proven, charged, unwanted bool
		want                      string
	}{
		{false, true, true, ""}, {true, false, true, ""},
		{true, true, true, "address bea@mail.example.net 0/1 domain example.net 0/1 "},
		{true, true, true, "address bea@mail.example.net 0/2 domain example.net 0/2 "},
		{true, true, false, "address bea@mail.example.net 1/1 domain example.net 1/1 "},
	} {
		if got := teach(int(f.machine.Applied()%200), step.proven, step.charged, step.unwanted); got != step.want {
			t.Errorf("%+v: %s", step, got)
		}
	}
	if sum := f.sound(); f.replayed(3).Sum != sum.Sum {
		t.Error("a replay differs")
	}
}
