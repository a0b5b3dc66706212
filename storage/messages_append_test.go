package storage

import (
	"bytes"
	"context"
	"testing"
)

// TestAppendAllLarge appends more in one step than a command holds.
func TestAppendAllLarge(t *testing.T) {
	f := newFixture(t)
	box := f.inbox(f.account("alice@example.org"))
	raws := make([][]byte, 300)
	messages := make([]NewMessage, len(raws))
	for i := range raws {
		raws[i] = rawMessage(i%290, 40_000) // some are the same
		if i == 7 {
			raws[i] = rawMessage(1000, 3*ChunkSize)
		}
		messages[i] = NewMessage{Content: f.content(raws[i]), Date: f.clock.Now()}
	}
	done, err := f.AppendAll(context.Background(), box.ID, messages, 0, 0)
	f.must(err)
	if len(done) != len(raws) {
		t.Fatalf("%d messages came of %d", len(done), len(raws))
	}
	items := f.all(box, 0)
	for i, raw := range raws {
		if items[i].UID != done[i].UID || !bytes.Equal(f.body(items[i].MessageID), raw) {
			t.Fatalf("message %d is another one", i)
		}
	}
	for first := 0; first < len(items); { // and as FETCH reads them
		bodies, err := f.OpenItems(context.Background(), items[first:])
		f.must(err)
		for i, b := range bodies {
			if b == nil {
				b, err = f.OpenItem(context.Background(), &items[first+i])
				f.must(err)
			}
			var out bytes.Buffer
			f.must(b.WriteRange(&out, 0, b.Size()))
			if !bytes.Equal(out.Bytes(), raws[first+i]) {
				t.Fatalf("message %d is read as another one", first+i)
			}
			b.Close()
		}
		first += len(bodies)
	}
	want := f.sound()
	if f.replayed(7).Sum != want.Sum {
		t.Fatal("replaying the log gives another state")
	}
}
