package smtp

import "strconv"

// Refusal is mail that was not taken, for now or for good.
type Refusal struct {
	Sender    string // reverse path
	Recipient string // empty: the message had none yet
	Account   int64  // of the local recipient, or of who submits; 0: none
	Remote    string // address of the client
	Code      string // of the reply
	Reply     string // its text
}

// tell says what was refused to whom.
func (s *session) tell(r *reply, to recipient) {
	if s.server.cfg.Refused == nil || r.Code < 400 {
		return
	}
	refusal := Refusal{Sender: s.mail.from.String(), Recipient: to.path.String(), Account: s.who.AccountID, Remote: s.remote.String(),
		Code: strconv.Itoa(r.Code), Reply: r.Message}
	if refusal.Account == 0 && len(to.to.Accounts) == 1 { // of several, it is for administrators to see
		refusal.Account = to.to.Accounts[0].ID
	}
	s.server.cfg.Refused(refusal)
}
