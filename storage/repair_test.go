package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
)

// damage changes an octet of every chunk in the open pack.
func (f *fixture) damage() {
	f.t.Helper()
	f.must(f.machine.files.packs.current.script("UPDATE chunk SET data = CAST(substr(data, 1, length(data) / 2) || x'00' || substr(data, length(data) / 2 + 2) AS BLOB)"))
}

func TestDamagedBodyIsRepaired(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	a := f.account("alice@example.org")
	small, large := rawMessage(1, 3000), rawMessage(2, 3*ChunkSize+5)
	first, second := f.deliver(small, a).MessageID, f.deliver(large, a).MessageID
	f.damage()
	read := func(id int64) ([]byte, error) {
		b, err := f.OpenBody(ctx, id)
		f.must(err)
		defer b.Close()
		return io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	}
	if _, err := read(first); err == nil {
		t.Fatal("a damaged body was served")
	}
	wrong := true
	f.SetPeer(func(_ context.Context, id int64) (io.ReadCloser, error) {
		raw := map[int64][]byte{first: small, second: large}[id]
		if raw == nil {
			return nil, errors.New("no such message")
		}
		if wrong {
			raw = append(bytes.Clone(raw), 'x')
		}
		return io.NopCloser(bytes.NewReader(raw)), nil
	})
	if _, err := read(first); err == nil {
		t.Fatal("a peer's wrong copy was served")
	}
	wrong = false
	if got, err := read(first); err != nil || !bytes.Equal(got, small) {
		t.Fatalf("%d octets, %v", len(got), err)
	}
	v, err := f.Verify(ctx, nil)
	f.must(err)
	if len(v.Problems) != 0 {
		t.Fatalf("verify did not repair: %v", v.Problems)
	}
	f.SetPeer(func(context.Context, int64) (io.ReadCloser, error) { return nil, errors.New("not needed any more") })
	if got, err := read(second); err != nil || !bytes.Equal(got, large) {
		t.Fatalf("%d octets, %v", len(got), err)
	}
	f.sound()
}
