package test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The floors: what no server on this machine can beat, measured in the same
// run as the server.

// preallocated is the size of the file that the disk floor writes, over and over.
const preallocated = 128 << 20

// diskFloor has writers who each wait until their message is durable, and one
// goroutine that writes whatever is waiting at once and calls fdatasync: group
// commit, with nothing else around it.
func diskFloor(dir string, writers, count int, limit time.Duration) (m measured, err error) {
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return m, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := preallocate(f); err != nil {
		return m, err
	}
	waiting := make(chan chan<- error, writers)
	go commitGroups(f, waiting)
	begun := time.Now()
	var mu sync.Mutex // guards m and err
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			durable := make(chan error, 1)
			var times []time.Duration
			var failed error
			for failed == nil && len(times) < count/writers && time.Since(begun) < limit {
				sent := time.Now()
				waiting <- durable
				failed = <-durable
				times = append(times, time.Since(sent))
			}
			mu.Lock()
			defer mu.Unlock()
			m.times = append(m.times, times...)
			if err == nil {
				err = failed
			}
		})
	}
	wg.Wait()
	close(waiting)
	m.count, m.elapsed = len(m.times), time.Since(begun)
	slices.Sort(m.times)
	return m, err
}

// preallocate writes the file out, so that no later write changes its metadata.
func preallocate(f *os.File) error {
	zeros := make([]byte, 1<<20)
	for range preallocated / len(zeros) {
		if _, err := f.Write(zeros); err != nil {
			return err
		}
	}
	return f.Sync()
}

// commitGroups serves until waiting is closed.
func commitGroups(f *os.File, waiting <-chan chan<- error) {
	message, _ := benchMessage(1, "nobody@"+domain)
	var offset int64
	var group []chan<- error
	var batch []byte
	for first := range waiting {
		group, batch = append(group[:0], first), append(batch[:0], message...)
		for len(waiting) > 0 { // the only receiver, so this does not block
			group, batch = append(group, <-waiting), append(batch, message...)
		}
		if offset+int64(len(batch)) > preallocated {
			offset = 0
		}
		_, err := f.WriteAt(batch, offset)
		if err == nil {
			err = unix.Fdatasync(int(f.Fd()))
		}
		offset += int64(len(batch))
		for _, durable := range group {
			durable <- err
		}
	}
}

// loopbackFloor has the load client talk SMTP to a server that keeps nothing.
func loopbackFloor(connections, count int, limit time.Duration) (measured, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return measured{}, err
	}
	defer listener.Close()
	go serveNull(listener)
	l, err := newLoad()
	if err != nil {
		return measured{}, err
	}
	defer l.close()
	for range connections {
		if err := l.connect(listener.Addr().String(), newSending(&serials{}, "nobody@"+domain), "EHLO client.example"); err != nil {
			return measured{}, err
		}
	}
	return l.run(count, limit)
}

func serveNull(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = nullSession(conn) // ends when the client goes away
		}()
	}
}

// nullSession takes mail from a client that does not pipeline.
func nullSession(conn net.Conn) error {
	if _, err := io.WriteString(conn, "220 null\r\n"); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	end, reply, size := []byte("\r\n"), "", 0
	for {
		n, err := conn.Read(buf[size:])
		if err != nil {
			return err
		}
		if size += n; !bytes.HasSuffix(buf[:size], end) {
			continue
		}
		end, reply = []byte("\r\n"), "250 2.0.0 OK\r\n"
		if bytes.HasPrefix(buf, []byte("DATA\r\n")) {
			end, reply = []byte("\r\n.\r\n"), "354 Go on\r\n"
		}
		size = 0
		if _, err := io.WriteString(conn, reply); err != nil {
			return err
		}
	}
}

// streamFloor is how long one connection takes for so many octets, and nothing else.
func streamFloor(octets int64) (time.Duration, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		piece := make([]byte, 64<<10)
		for left := octets; left > 0; {
			n, err := conn.Write(piece[:min(left, int64(len(piece)))])
			if err != nil {
				return // the reader misses octets and says so
			}
			left -= int64(n)
		}
	}()
	begun := time.Now()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	buf := make([]byte, readSize)
	for got := int64(0); ; {
		n, err := conn.Read(buf)
		got += int64(n)
		if err == io.EOF && got == octets {
			return time.Since(begun), nil
		}
		if err != nil {
			return 0, fmt.Errorf("%d of %d octets: %w", got, octets, err)
		}
	}
}
