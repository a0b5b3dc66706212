package smtp

import (
	"context"
	"io"
	"strings"
	"testing"

	"trivet/spam"
)

// judgeFunc gives actions by account.
type judgeFunc func(m *spam.Message) map[int64]spam.Action

func (f judgeFunc) Judge(_ context.Context, m *spam.Message) []spam.Verdict {
	actions := f(m)
	var out []spam.Verdict
	for _, to := range m.Recipients {
		out = append(out, spam.Verdict{Recipient: to, Action: actions[to.Account], Points: 3, Probability: 0.95, Threshold: 0.9,
			Reasons: []spam.Reason{{Name: "test", Points: 3, Text: "the test wants it"}}})
	}
	return out
}

const toBoth = "EHLO c.example\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"

// TestVerdicts has two recipients: only what both refuse is refused.
func TestVerdicts(t *testing.T) {
	const body = "X-Spam-Status: No, they said\r\nSubject: x\r\nx-spam-FLAG: YES\r\n\r\nbody\r\n"
	for _, c := range []struct {
		name       string
		alice, bob spam.Action
		code       string
		kept       string // actions
	}{
		{"both want it", spam.Accept, spam.Accept, "250", "accept accept"},
		{"one does not", spam.Accept, spam.Junk, "250", "accept junk"},
		{"one refuses it", spam.Accept, spam.Reject, "250", "accept junk"},
		{"one puts it off", spam.Defer, spam.Junk, "250", "junk junk"},
		{"one refuses, one puts it off", spam.Reject, spam.Defer, "451", ""},
		{"both refuse it", spam.Reject, spam.Reject, "550", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := newFakeStore()
			_, addr := startServer(t, store, func(cfg *Config) {
				cfg.Judge = judgeFunc(func(*spam.Message) map[int64]spam.Action { return map[int64]spam.Action{1: c.alice, 2: c.bob} })
			})
			answer := talk(t, addr, toBoth+body+".\r\nQUIT\r\n")
			if got := codes(answer); got != "220 250 250 250 250 354 "+c.code+" 221" {
				t.Fatalf("%s\n%s", got, answer)
			}
			messages := store.delivered()
			if c.kept == "" {
				if len(messages) != 0 {
					t.Errorf("kept all the same: %+v", messages)
				}
				return
			}
			m := messages[0]
			if got := m.verdicts[0].Action + " " + m.verdicts[1].Action; got != c.kept || m.verdicts[1].Junk != (c.bob != spam.Accept) {
				t.Errorf("%s: %+v", got, m.verdicts)
			}
			if !strings.HasSuffix(m.data, "\r\nSubject: x\r\n\r\nbody\r\n") || strings.Count(m.data, spam.FieldStatus) != 1 || !strings.Contains(m.data, "\r\nX-Spam-Status: No, score=0.0") {
				t.Error(m.data)
			}
		})
	}
}

// TestJudgeSeesWhatIsStored compares what is looked at with what was kept, but for the verdict itself.
func TestJudgeSeesWhatIsStored(t *testing.T) {
	for name, body := range map[string]string{"small": "From: Ann <ann@Example.NET>\r\nSubject: x\r\n\r\nbody\r\n", "no header": "\r\nbody\r\n",
		"large": "From: ann@example.net\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", spoolMemory/16)} {
		t.Run(name, func(t *testing.T) {
			store := newFakeStore()
			var seen []byte
			var message spam.Message
			_, addr := startServer(t, store, func(cfg *Config) {
				cfg.Judge = judgeFunc(func(m *spam.Message) map[int64]spam.Action {
					message = *m
					seen, _ = io.ReadAll(io.NewSectionReader(m.Raw, 0, 1<<40))
					return nil
				})
			})
			talk(t, addr, opening+body+".\r\nQUIT\r\n")
			data := store.delivered()[0].data
			from := strings.Index(data, spam.FieldStatus)
			status, rest, _ := strings.Cut(data[from:], "test=3.0\r\n")
			if data[:from]+rest != string(seen) || !strings.HasPrefix(status, spam.FieldStatus) {
				t.Fatalf("it saw %d octets, kept are %d:\n%.600s", len(seen), len(data), data)
			}
			if m := message; m.MailFrom != "a@example.net" || m.Helo != "c.example" || m.IP.String() != "127.0.0.1" || m.Structure.Size != int64(len(seen)) ||
				m.Structure.HeaderSize != int64(len(m.Header)) || name != "no header" && m.Sender() != "ann@example.net" {
				t.Errorf("%+v", m)
			}
		})
	}
}
