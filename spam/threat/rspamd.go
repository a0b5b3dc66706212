package threat

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"trivet/spam"
)

// Limits of asking rspamd.
const (
	// DefaultRspamdTime is how long rspamd may take for a message.
	DefaultRspamdTime = 10 * time.Second
	maxRspamdReply    = 1 << 20 // octets
	maxRspamdPoints   = 6       // it is one voice among others
	shownSymbols      = 6
)

// Rspamd asks an rspamd over HTTP (POST /checkv2) and takes its score for points. It is a second opinion: a message
// that it has no answer for is judged without it.
type Rspamd struct {
	URL      string // http://HOST:PORT
	Password string // of its controller, where it asks for one
	Hostname string // ours
	Client   *http.Client
	Time     time.Duration // 0: DefaultRspamdTime
}

// ParseRspamd checks the URL of an rspamd.
func ParseRspamd(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("%q is no URL of the form http://HOST:PORT", text)
	}
	return strings.TrimSuffix(text, "/"), nil
}

// rspamdReply is what is used of an answer.
type rspamdReply struct {
	Action   string  `json:"action"`
	Score    float64 `json:"score"`
	Required float64 `json:"required_score"`
	Symbols  map[string]struct {
		Name  string  `json:"name"`
		Score float64 `json:"score"`
	} `json:"symbols"`
}

// Check implements [spam.Check].
func (r Rspamd) Check(ctx context.Context, m *spam.Message) ([]spam.Reason, error) {
	limit := r.Time
	if limit == 0 {
		limit = DefaultRspamdTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := r.request(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("rspamd: %w", err)
	}
	client := r.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("rspamd: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("rspamd: %s", resp.Status)
	}
	var reply rspamdReply
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRspamdReply)).Decode(&reply); err != nil {
		return nil, fmt.Errorf("rspamd: %w", err)
	}
	return reply.reasons(), nil
}

// request is the message with what rspamd cannot see in it.
func (r Rspamd) request(ctx context.Context, m *spam.Message) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+"/checkv2", io.NewSectionReader(m.Raw, 0, m.Structure.Size))
	if err != nil {
		return nil, err
	}
	req.ContentLength = m.Structure.Size
	set := func(name, value string) {
		if value != "" {
			req.Header.Set(name, plainValue(value))
		}
	}
	if m.IP.IsValid() {
		set("IP", m.IP.String())
	}
	set("Helo", m.Helo)
	set("Hostname", m.Reverse)
	set("From", m.MailFrom)
	set("Queue-Id", m.ID)
	set("MTA-Name", r.Hostname)
	set("Password", r.Password)
	for _, to := range m.Recipients {
		if to.Address != "" {
			req.Header.Add("Rcpt", plainValue(to.Address))
		}
	}
	return req, nil
}

// plainValue makes text from outside fit for a field of HTTP.
func plainValue(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
}

// reasons is rspamd's score in log-odds: at the score from which it would mark a message that is 2.2, a probability
// of 0.9; nothing at 0.
func (r rspamdReply) reasons() []spam.Reason {
	if math.IsNaN(r.Score) || math.IsInf(r.Score, 0) || r.Action == "" {
		return nil
	}
	required := r.Required
	if required <= 0 || math.IsNaN(required) {
		required = 15 // of rspamd's own configuration, for refusing
	}
	points := max(-maxRspamdPoints/2, min(maxRspamdPoints, maxRspamdPoints*r.Score/required))
	names := make([]string, 0, len(r.Symbols))
	for name := range r.Symbols {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(math.Abs(r.Symbols[b].Score), math.Abs(r.Symbols[a].Score)), cmp.Compare(a, b))
	})
	text := fmt.Sprintf("rspamd says %s, %.1f of %.1f", shown(r.Action), r.Score, required)
	if len(names) > 0 {
		text += ": " + strings.Join(names[:min(len(names), shownSymbols)], ", ")
	}
	return []spam.Reason{{Name: "rspamd", Points: points, Text: text}}
}
