package mail

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"trivet/storage"
	"trivet/web"
)

// prefSignature is the name of the preference for what stands below a new message.
const prefSignature = "mail.signature"

// settings is what the page of settings shows.
type settings struct {
	Tab        string
	Tabs       []string
	Done       bool
	Signature  string
	Identities []string
	Filters    []storage.Filter
	Vacation   storage.Vacation
	From       string // days, as the form has them
	Until      string
	Days       int    // between two answers to a sender
	Prefill    string // whom a new filter is about
}

// Key is a shortcut.
type Key struct {
	Keys []string
	Text string
}

// Keys are the shortcuts that mail.js knows.
func (*frame) Keys() []Key {
	return []Key{{[]string{"j", "k"}, "mail.key-next"}, {[]string{"Enter", "o"}, "mail.key-open"}, {[]string{"x"}, "mail.key-choose"}, {[]string{"c"}, "mail.compose"},
		{[]string{"r"}, "mail.reply"}, {[]string{"a"}, "mail.reply-all"}, {[]string{"f"}, "mail.forward"}, {[]string{"e"}, "mail.do-archive"}, {[]string{"#"}, "mail.do-trash"},
		{[]string{"!"}, "mail.do-junk"}, {[]string{"s"}, "mail.do-flag"}, {[]string{"u"}, "mail.do-unread"}, {[]string{"v"}, "mail.do-move"},
		{[]string{"/"}, "mail.search"}, {[]string{"g", "i"}, "mail.inbox"}, {[]string{"Esc"}, "mail.key-back"}, {[]string{"?"}, "mail.tab-keys"}}
}

// settingsTabs are the pages of settings, in order.
var settingsTabs = []string{"writing", "filters", "vacation", "folders", "keys"}

// maxSignature is the longest signature, in octets.
const maxSignature = 4 << 10

func (m *Room) settings(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	return m.showSettings(w, r, v, "", http.StatusOK)
}

func (m *Room) showSettings(w http.ResponseWriter, r *http.Request, v *web.Visit, problem string, status int) error {
	f, err := m.newFrame(r, v)
	if err != nil {
		return err
	}
	s := &settings{Tab: r.PathValue("tab"), Tabs: settingsTabs, Done: r.URL.Query().Get("done") == "1", Prefill: r.URL.Query().Get("from")}
	if s.Tab == "" {
		s.Tab = settingsTabs[0]
	}
	switch s.Tab {
	case "writing":
		prefs, perr := m.store.Preferences(r.Context(), v.Account.ID)
		s.Signature, err = prefs[prefSignature], perr
		if err == nil {
			s.Identities, err = m.identities(r.Context(), v.Account)
		}
	case "filters":
		s.Filters, err = m.store.Filters(r.Context(), v.Account.ID)
	case "vacation":
		if s.Vacation, err = m.store.Vacation(r.Context(), v.Account.ID); err == nil {
			s.From, s.Until, s.Days = dayOf(s.Vacation.From, v.Zone), dayOf(s.Vacation.Until, v.Zone), int(s.Vacation.Every/(24*time.Hour))
			if s.Days == 0 {
				s.Days = int(storage.DefaultVacationEvery / (24 * time.Hour))
			}
		}
	case "folders", "keys":
	default:
		return web.ErrNotFound
	}
	if err != nil {
		return err
	}
	f.Settings, f.Problem = s, problem
	return m.render(w, r, v, f, "mail.settings", status)
}

func dayOf(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return ""
	}
	return t.In(zone).Format(time.DateOnly)
}

// change answers the forms of the settings.
func (m *Room) change(w http.ResponseWriter, r *http.Request, v *web.Visit) error {
	if err := r.ParseForm(); err != nil {
		return err
	}
	tab := r.PathValue("tab")
	change, known := map[string]func(*http.Request, *web.Visit) error{"writing": m.changeWriting, "filters": m.changeFilters,
		"vacation": m.changeVacation, "folders": m.changeFolders}[tab]
	if !known {
		return web.ErrNotFound
	}
	err := change(r, v)
	switch storage.KindOf(err) {
	case storage.KindInvalid, storage.KindExists, storage.KindNotFound, storage.KindHasChildren, storage.KindTooLarge:
		if err != nil {
			return m.showSettings(w, r, v, err.Error(), http.StatusUnprocessableEntity)
		}
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/mail/settings/"+tab+"?done=1", http.StatusSeeOther)
	return nil
}

func (m *Room) changeWriting(r *http.Request, v *web.Visit) error {
	text := strings.TrimRight(strings.ReplaceAll(r.PostFormValue("signature"), "\r\n", "\n"), "\n ")
	if len(text) > maxSignature {
		return &storage.Error{Op: "set the signature", Kind: storage.KindTooLarge, Hint: "it has at most 4,096 octets"}
	}
	return m.store.SetPreference(r.Context(), v.Account.ID, prefSignature, text)
}

// changeFilters adds a filter, removes one or moves one up.
func (m *Room) changeFilters(r *http.Request, v *web.Visit) error {
	list, err := m.store.Filters(r.Context(), v.Account.ID)
	if err != nil {
		return err
	}
	verb, number, _ := strings.Cut(r.PostFormValue("do"), ":")
	n, err := strconv.Atoi(number)
	valid := err == nil && n >= 0 && n < len(list)
	switch {
	case verb == "remove" && valid:
		list = slices.Delete(list, n, n+1)
	case verb == "up" && valid && n > 0:
		list[n-1], list[n] = list[n], list[n-1]
	case verb == "add":
		f := storage.Filter{From: oneLine(r.PostFormValue("from")), To: oneLine(r.PostFormValue("to")), Subject: oneLine(r.PostFormValue("subject")),
			Flag: r.PostFormValue("flag") != "", Seen: r.PostFormValue("seen") != "", Discard: r.PostFormValue("where") == "discard"}
		if where := r.PostFormValue("where"); !f.Discard && where != "" {
			if f.Mailbox, err = strconv.ParseInt(where, 10, 64); err != nil {
				return &storage.Error{Op: "add a filter", Kind: storage.KindInvalid}
			}
		}
		list = append(list, f)
	default:
		return &storage.Error{Op: "change filters", Kind: storage.KindInvalid}
	}
	return m.store.SetFilters(r.Context(), v.Account.ID, list)
}

func (m *Room) changeVacation(r *http.Request, v *web.Visit) error {
	n := storage.Vacation{Address: v.Account.Address}
	if r.PostFormValue("do") == "off" {
		return m.store.SetVacation(r.Context(), n)
	}
	n.Subject, n.Text = oneLine(r.PostFormValue("subject")), strings.ReplaceAll(r.PostFormValue("text"), "\r\n", "\n")
	for name, into := range map[string]*time.Time{"from": &n.From, "until": &n.Until} {
		if text := r.PostFormValue(name); text != "" {
			day, err := time.ParseInLocation(time.DateOnly, text, v.Zone)
			if err != nil {
				return &storage.Error{Op: "set the vacation notice", Kind: storage.KindInvalid, Hint: "a day is written 2026-12-24"}
			}
			*into = day
		}
	}
	days, err := strconv.Atoi(r.PostFormValue("days"))
	const most = 365
	if err != nil || days < 1 || days > most || strings.TrimSpace(n.Text) == "" {
		return &storage.Error{Op: "set the vacation notice", Kind: storage.KindInvalid, Hint: "write a text, and 1 to 365 days"}
	}
	n.Every = time.Duration(days) * 24 * time.Hour
	return m.store.SetVacation(r.Context(), n)
}

// changeFolders makes, renames or deletes a mailbox of one's own.
func (m *Room) changeFolders(r *http.Request, v *web.Visit) error {
	name := strings.TrimSpace(r.PostFormValue("name"))
	verb, number, _ := strings.Cut(r.PostFormValue("do"), ":")
	if verb == "create" {
		_, err := m.store.CreateMailbox(r.Context(), v.Account.ID, name, storage.UseNone)
		return err
	}
	boxes, err := m.boxes(r.Context(), v.Account.ID)
	if err != nil {
		return err
	}
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		id = 0
	}
	b := (&frame{Boxes: boxes}).Box(id)
	switch {
	case b.ID == 0 || !b.Own():
		return &storage.Error{Op: "change a folder", Kind: storage.KindInvalid}
	case verb == "rename":
		return m.store.RenameMailbox(r.Context(), v.Account.ID, b.Name, name)
	case verb == "delete" && b.Messages > 0:
		return &storage.Error{Op: "delete " + b.Name, Kind: storage.KindInvalid, Hint: v.T("mail.folder-not-empty")}
	case verb == "delete":
		return m.store.DeleteMailbox(r.Context(), v.Account.ID, b.Name)
	}
	return &storage.Error{Op: "change a folder", Kind: storage.KindInvalid}
}
