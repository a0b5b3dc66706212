package web

import (
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
	"github.com/skip2/go-qrcode"

	"trivet/auth"
	"trivet/storage"
)

const (
	// enrolLife is how long somebody may take to show that what they added works.
	enrolLife = 15 * time.Minute
	qrSize    = 320 // pixels
)

// mountSecurity adds the pages of the second factor. Each change asks for the password, so that a browser left open is not enough.
func (s *Shell) mountSecurity() {
	user := Access{Role: User, Body: maxLoginBody}
	s.Mount("GET /account/security", user, s.showSecurity)
	s.Mount("POST /account/security/totp/new", user, s.newTOTP)
	s.Mount("GET /account/security/totp", user, s.showTOTP)
	s.Mount("GET /account/security/totp.png", user, s.totpPicture)
	s.Mount("POST /account/security/totp", user, s.addTOTP)
	s.Mount("POST /account/security/passkey/new", user, s.newPasskey)
	s.Mount("GET /account/security/passkey", user, s.showPasskey)
	s.Mount("POST /account/security/passkey", Access{Role: User, Body: maxAnswerBody}, s.addPasskey)
	s.Mount("POST /account/security/codes", user, s.renewCodes)
	s.Mount("POST /account/security/remove", user, s.removeFactor)
	s.Mount("POST /account/security/choice", user, s.choosePassword)
}

// securityPage is what /account/security shows.
type securityPage struct {
	storage.SecondFactor
	Passkeys bool // they work under the name that was asked for
	Host     string
	Done     string
	Problem  string
}

// Passkey reports whether a factor is one.
func (securityPage) Passkey(f storage.Factor) bool { return f.Kind == storage.FactorPasskey }

func (s *Shell) showSecurity(w http.ResponseWriter, r *http.Request, v *Visit) error {
	page := securityPage{}
	switch done := r.URL.Query().Get("done"); done {
	case "removed", "choice":
		page.Done = "security." + done
	}
	return s.renderSecurity(w, r, v, page, http.StatusOK)
}

func (s *Shell) renderSecurity(w http.ResponseWriter, r *http.Request, v *Visit, page securityPage, status int) (err error) {
	if page.SecondFactor, err = s.store.SecondFactor(r.Context(), v.Account.ID); err != nil {
		return err
	}
	relying, err := s.relying(r)
	if err != nil {
		return err
	}
	page.Passkeys = relying != nil
	if s.host != nil {
		page.Host = s.host()
	}
	return s.Render(w, r, v, View{Title: "security.title", Page: s.pages.security, Data: page, Narrow: true, Status: status})
}

// confirm checks the password that comes with a change. status 0: it is right.
func (s *Shell) confirm(r *http.Request, v *Visit) (status int, problem string) {
	switch _, err := s.password(r, v.Account.Address, r.PostFormValue("current")); {
	case err == nil:
		return 0, ""
	case errors.Is(err, auth.ErrUnavailable):
		return http.StatusServiceUnavailable, "login.unavailable"
	case errors.Is(err, auth.ErrThrottled):
		return http.StatusTooManyRequests, "account.throttled"
	}
	return http.StatusForbidden, "account.wrong-password"
}

// confirmed shows the page of the second factor with what is wrong, unless the password is right.
func (s *Shell) confirmed(w http.ResponseWriter, r *http.Request, v *Visit) (bool, error) {
	status, problem := s.confirm(r, v)
	if status == 0 {
		return true, nil
	}
	return false, s.renderSecurity(w, r, v, securityPage{Problem: problem}, status)
}

// refuseSecurity shows what storage says against a change where the visitor can do something about it.
func (s *Shell) refuseSecurity(w http.ResponseWriter, r *http.Request, v *Visit, err error) error {
	problem := map[storage.Kind]string{storage.KindExists: "security.exists", storage.KindInvalid: "security.name-wrong", storage.KindTooLarge: "security.too-many"}[storage.KindOf(err)]
	if problem == "" {
		return err
	}
	return s.renderSecurity(w, r, v, securityPage{Problem: problem}, http.StatusBadRequest)
}

// enrolPage is what the page shows on which something new proves that it works.
type enrolPage struct {
	Name    string
	Secret  string // of TOTP, in groups
	Link    string // otpauth:
	Options string // what the browser is asked for a passkey
	Problem string
}

// totpKey makes the key of TOTP, or one of before.
func (s *Shell) totpKey(r *http.Request, v *Visit, secret []byte) (*otp.Key, error) {
	issuer := hostname(r.Host)
	if s.host != nil {
		issuer = hostname(s.host())
	}
	return totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: v.Account.Address, Secret: secret})
}

// enrolling is a key of TOTP of which no code was seen yet.
type enrolling struct {
	Name string `json:"name"`
	Key  []byte `json:"key"`
}

const totpKeyLength = 20 // octets; RFC 4226 section 4, R6

func (s *Shell) newTOTP(w http.ResponseWriter, r *http.Request, v *Visit) error {
	if ok, err := s.confirmed(w, r, v); !ok {
		return err
	}
	data, err := json.Marshal(enrolling{factorName(r, v.T("security.app")), newKey()})
	if err != nil {
		return err
	}
	if err := s.store.PutPending(r.Context(), storage.Pending{Hash: v.secret, Purpose: storage.PendingTOTP, Account: v.Account.ID, Data: data}, enrolLife); err != nil {
		return err
	}
	http.Redirect(w, r, "/account/security/totp", http.StatusSeeOther)
	return nil
}

func newKey() []byte { return auth.NewSecret()[:totpKeyLength] }

func factorName(r *http.Request, otherwise string) string {
	if name := strings.TrimSpace(r.PostFormValue("name")); name != "" {
		return name
	}
	return otherwise
}

// enrolment is what the session is in the middle of adding.
func (s *Shell) enrolment(r *http.Request, v *Visit, purpose storage.PendingPurpose, into any) error {
	pending, err := s.store.Pending(r.Context(), v.secret, purpose)
	if err == nil && pending.Account != v.Account.ID {
		err = &storage.Error{Op: "go on", Kind: storage.KindNotFound}
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(pending.Data, into)
}

func (s *Shell) showTOTP(w http.ResponseWriter, r *http.Request, v *Visit) error {
	return s.renderTOTP(w, r, v, "", http.StatusOK)
}

func (s *Shell) renderTOTP(w http.ResponseWriter, r *http.Request, v *Visit, problem string, status int) error {
	var e enrolling
	if err := s.enrolment(r, v, storage.PendingTOTP, &e); err != nil {
		return s.expired(w, r, err)
	}
	key, err := s.totpKey(r, v, e.Key)
	if err != nil {
		return err
	}
	page := enrolPage{Name: e.Name, Secret: inGroups(key.Secret()), Link: key.URL(), Problem: problem}
	return s.Render(w, r, v, View{Title: "security.add-app", Page: s.pages.enrol, Data: page, Narrow: true, Status: status})
}

// expired sends somebody back who took too long.
func (s *Shell) expired(w http.ResponseWriter, r *http.Request, err error) error {
	if storage.KindOf(err) != storage.KindNotFound {
		return err
	}
	http.Redirect(w, r, "/account/security", http.StatusSeeOther)
	return nil
}

// otpauth lets a link of an app that shows codes through, which templates know nothing of.
func otpauth(link string) template.URL {
	if !strings.HasPrefix(link, "otpauth://") {
		return ""
	}
	return template.URL(link)
}

// inGroups is a text that is typed from a screen, four characters at a time.
func inGroups(s string) string {
	var b strings.Builder
	for i, r := range s {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (s *Shell) totpPicture(w http.ResponseWriter, r *http.Request, v *Visit) error {
	var e enrolling
	if err := s.enrolment(r, v, storage.PendingTOTP, &e); err != nil {
		return err
	}
	key, err := s.totpKey(r, v, e.Key)
	if err != nil {
		return err
	}
	return QR(w, key.URL())
}

// QR answers with a picture of a text that a phone reads.
func QR(w http.ResponseWriter, text string) error {
	picture, err := qrcode.Encode(text, qrcode.Medium, qrSize)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(picture) // fails only when the client has gone away
	return nil
}

func (s *Shell) addTOTP(w http.ResponseWriter, r *http.Request, v *Visit) error {
	var e enrolling
	if err := s.enrolment(r, v, storage.PendingTOTP, &e); err != nil {
		return s.expired(w, r, err)
	}
	key, err := s.totpKey(r, v, e.Key)
	if err != nil {
		return err
	}
	step, ok := totpGood(key.Secret(), plainCode(r.PostFormValue("code")), s.now())
	if !ok {
		return s.renderTOTP(w, r, v, "second.wrong", http.StatusForbidden)
	}
	return s.addFactor(w, r, v, storage.Factor{Account: v.Account.ID, Kind: storage.FactorTOTP, Name: e.Name, Secret: []byte(key.Secret()), Counter: step}, storage.PendingTOTP)
}

// addFactor keeps what has shown that it works. With the first one come recovery codes, and all other browsers are logged out:
// they never showed it.
func (s *Shell) addFactor(w http.ResponseWriter, r *http.Request, v *Visit, f storage.Factor, purpose storage.PendingPurpose) error {
	have, err := s.store.SecondFactor(r.Context(), v.Account.ID)
	if err != nil {
		return err
	}
	first := len(have.Factors) == 0
	codes, hashes := newCodes()
	if !first {
		codes, hashes = nil, nil
	}
	if err := s.store.EndPending(r.Context(), v.secret, purpose); err != nil {
		return s.expired(w, r, err)
	}
	if err := s.store.AddFactor(r.Context(), f, hashes); err != nil {
		return s.refuseSecurity(w, r, v, err)
	}
	s.note(r, v, "factor.add", f.Name)
	if first {
		if err := s.store.EndWebSessions(r.Context(), v.Account.ID, v.Session.ID); err != nil {
			return err
		}
	}
	return s.showOnce(w, r, v, shown{Title: "security.added", About: "security.added-about", Codes: codes, Back: "/account/security"})
}

// note remembers in the journal what somebody changed about how they log in.
func (s *Shell) note(r *http.Request, v *Visit, what, subject string) {
	s.store.Note(storage.JournalEntry{Kind: storage.JournalChange, Account: v.Account.ID, Address: v.Account.Address, Remote: remoteIP(r).String(),
		Service: what, Outcome: "done", Text: subject})
}

// shown is a page with what is never shown again.
type shown struct {
	Title, About string
	Codes        []string
	Secret       string
	Back         string
	Apple        bool // with the way to set up Apple's clients
}

func (s *Shell) showOnce(w http.ResponseWriter, r *http.Request, v *Visit, page shown) error {
	return s.Render(w, r, v, View{Title: page.Title, Page: s.pages.shown, Data: page, Narrow: true})
}

func (s *Shell) newPasskey(w http.ResponseWriter, r *http.Request, v *Visit) error {
	if ok, err := s.confirmed(w, r, v); !ok {
		return err
	}
	relying, err := s.relying(r)
	if err != nil {
		return err
	}
	have, err := s.store.SecondFactor(r.Context(), v.Account.ID)
	if err != nil || relying == nil {
		return errors.Join(err, s.renderSecurity(w, r, v, securityPage{Problem: "security.elsewhere"}, http.StatusBadRequest))
	}
	h, err := holderOf(v.Account.ID, v.Account.Address, have)
	if err != nil {
		return err
	}
	var excluded []protocol.CredentialDescriptor
	for _, key := range h.keys {
		excluded = append(excluded, key.Descriptor())
	}
	question, session, err := relying.BeginRegistration(h, webauthn.WithExclusions(excluded))
	if err != nil {
		return err
	}
	data, err := marshalAsked(factorName(r, v.T("security.passkey")), question.Response, *session)
	if err != nil {
		return err
	}
	if err := s.store.PutPending(r.Context(), storage.Pending{Hash: v.secret, Purpose: storage.PendingPasskey, Account: v.Account.ID, Data: data}, enrolLife); err != nil {
		return err
	}
	http.Redirect(w, r, "/account/security/passkey", http.StatusSeeOther)
	return nil
}

func (s *Shell) showPasskey(w http.ResponseWriter, r *http.Request, v *Visit) error {
	return s.renderPasskey(w, r, v, "", http.StatusOK)
}

func (s *Shell) renderPasskey(w http.ResponseWriter, r *http.Request, v *Visit, problem string, status int) error {
	var question asked
	if err := s.enrolment(r, v, storage.PendingPasskey, &question); err != nil {
		return s.expired(w, r, err)
	}
	page := enrolPage{Name: question.Name, Options: string(question.Options), Problem: problem}
	return s.Render(w, r, v, View{Title: "security.add-passkey", Page: s.pages.enrol, Data: page, Narrow: true, Modules: []string{"passkey.js"}, Status: status})
}

func (s *Shell) addPasskey(w http.ResponseWriter, r *http.Request, v *Visit) error {
	var question asked
	if err := s.enrolment(r, v, storage.PendingPasskey, &question); err != nil {
		return s.expired(w, r, err)
	}
	relying, err := s.relying(r)
	if err != nil {
		return err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(r.PostFormValue("passkey")))
	if err != nil || relying == nil {
		return s.renderPasskey(w, r, v, "security.passkey-refused", http.StatusBadRequest)
	}
	key, err := relying.CreateCredential(holder{id: v.Account.ID, address: v.Account.Address}, question.Session, parsed)
	if err != nil {
		return s.renderPasskey(w, r, v, "security.passkey-refused", http.StatusBadRequest)
	}
	key.Attestation = webauthn.CredentialAttestation{} // nobody asks who made it
	record, err := json.Marshal(key)
	if err != nil {
		return err
	}
	return s.addFactor(w, r, v, storage.Factor{Account: v.Account.ID, Kind: storage.FactorPasskey, Name: question.Name, Secret: record,
		Counter: int64(key.Authenticator.SignCount)}, storage.PendingPasskey)
}

func (s *Shell) renewCodes(w http.ResponseWriter, r *http.Request, v *Visit) error {
	if ok, err := s.confirmed(w, r, v); !ok {
		return err
	}
	codes, hashes := newCodes()
	if err := s.store.SetRecoveryCodes(r.Context(), v.Account.ID, hashes); err != nil {
		return err
	}
	s.note(r, v, "factor.codes", "")
	return s.showOnce(w, r, v, shown{Title: "security.codes", About: "security.codes-new", Codes: codes, Back: "/account/security"})
}

func (s *Shell) removeFactor(w http.ResponseWriter, r *http.Request, v *Visit) error {
	if ok, err := s.confirmed(w, r, v); !ok {
		return err
	}
	id, err := strconv.ParseInt(r.PostFormValue("id"), 10, 64)
	if err != nil || id <= 0 {
		return &storage.Error{Op: "remove a second factor", Kind: storage.KindInvalid}
	}
	if err := s.store.RemoveFactor(r.Context(), v.Account.ID, id); err != nil {
		return err
	}
	s.note(r, v, "factor.remove", "")
	http.Redirect(w, r, "/account/security?done=removed", http.StatusSeeOther)
	return nil
}

// choosePassword says whether the account's own password opens mail programs and SQL, which show no second factor.
func (s *Shell) choosePassword(w http.ResponseWriter, r *http.Request, v *Visit) error {
	if ok, err := s.confirmed(w, r, v); !ok {
		return err
	}
	if err := s.store.SetOpenPassword(r.Context(), v.Account.ID, r.PostFormValue("open") == "1"); err != nil {
		return err
	}
	s.note(r, v, "factor.choice", r.PostFormValue("open"))
	http.Redirect(w, r, "/account/security?done=choice", http.StatusSeeOther)
	return nil
}
