package admin

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"trivet/auth"
	"trivet/storage"
)

// action is a form: an operation, made from fields.
type action struct {
	op string
	// subject is the address or the domain that it is about; nil: it is for administrators of everything. Those who administer
	// domains may do it to theirs, but for what is not scoped.
	subject func(f form) string
	scoped  bool
	input   func(f form) (any, error)
	show    bool   // its answer is shown
	gone    string // where to go afterwards, when what the page was about is no more
}

// allowed reports whether an action is within a scope. What leads mail elsewhere, or names an owner, must be too.
func (a action) allowed(s scope, f form) bool {
	if !a.scoped || !s.has(a.subject(f)) {
		return false
	}
	for _, other := range []string{"alias_of"} {
		if name := f.text(other); name != "" && !s.has(name) {
			return false
		}
	}
	return true
}

// form is what was sent.
type form struct {
	url.Values
	now time.Time
}

func (f form) text(name string) string { return strings.TrimSpace(f.Get(name)) }

// list is a field with several words.
func (f form) list(name string) []string {
	return strings.FieldsFunc(f.Get(name), func(r rune) bool { return strings.ContainsRune(" ,;\r\n\t", r) })
}

func (f form) on(name string) bool { return f.Get(name) != "" }

// whole is a number, 0 if nothing is there.
func (f form) whole(name string) (int64, error) {
	text := f.text(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, invalid("%q is no whole number", text)
	}
	return n, nil
}

// share is a probability in per cent, 0 if nothing is there.
func (f form) share(name string) (*float64, error) {
	n, err := strconv.ParseFloat(f.text(name), 64)
	if f.text(name) == "" {
		n, err = 0, nil
	}
	if err != nil || n < 0 || n > 100 {
		return nil, invalid("%q is no number from 0 to 100", f.text(name))
	}
	n /= 100
	return &n, nil
}

// octets is a size in megabytes, 0 if nothing is there.
func (f form) octets(name string) (int64, error) {
	n, err := f.whole(name)
	if n > 1<<40 {
		return 0, invalid("%d MB is too much", n)
	}
	return n * 1_000_000, err
}

func invalid(format string, args ...any) error {
	return &storage.Error{Op: "read the form", Kind: storage.KindInvalid, Err: fmt.Errorf(format, args...)}
}

// object is the body of an operation.
type object map[string]any

// named is an operation that takes a name.
func named(field string) func(f form) (any, error) {
	return func(f form) (any, error) { return object{"name": f.text(field)}, nil }
}

// texts is an operation that takes fields as they are.
func texts(fields ...string) func(f form) (any, error) {
	return func(f form) (any, error) {
		in := object{}
		for _, name := range fields {
			in[name] = f.text(name)
		}
		return in, nil
	}
}

func by(field string) func(f form) string { return func(f form) string { return f.text(field) } }

// verifier makes what is kept of a password that was typed.
func (f form) verifier() (storage.Verifier, error) {
	v, err := auth.NewVerifier(f.Get("password"))
	if err != nil {
		return v, invalid("%w", err)
	}
	return v, nil
}

// actions are all forms, by the last part of their address.
var actions = map[string]action{
	"domain-add":    {op: "domain.add", subject: by("domain"), input: named("domain")},
	"domain-remove": {op: "domain.remove", subject: by("domain"), input: named("domain"), gone: "/admin/domains"},
	"domain-set": {op: "domain.set", subject: by("domain"), scoped: true, input: func(f form) (any, error) {
		return object{"name": f.text("domain"), "alias_of": f.text("alias_of"), "delimiter": f.text("delimiter"), "catch_all": f.text("catch_all")}, nil
	}},
	"dkim-rotate": {op: "dkim.rotate", subject: by("domain"), scoped: true, input: func(f form) (any, error) {
		return object{"domain": f.text("domain"), "ed25519": f.on("ed25519")}, nil
	}},
	"dkim-activate": {op: "dkim.activate", subject: by("domain"), scoped: true, input: texts("domain", "selector")},
	"dkim-remove":   {op: "dkim.remove", subject: by("domain"), scoped: true, input: texts("domain", "selector")},
	"administrator": {op: "domain.administrator", subject: by("address"), input: func(f form) (any, error) {
		return object{"domain": f.text("domain"), "address": f.text("address"), "remove": f.on("remove")}, nil
	}},

	"account-add": {op: "account.add", subject: by("address"), scoped: true, input: func(f form) (any, error) {
		v, err := f.verifier()
		if err != nil {
			return nil, err
		}
		quota, err := f.octets("quota")
		return storage.NewAccount{Address: f.text("address"), Name: f.text("name"), Admin: false, Verifier: v, QuotaBytes: quota}, err
	}},
	"account-password": {op: "account.password", subject: by("address"), scoped: true, input: func(f form) (any, error) {
		v, err := f.verifier()
		return object{"address": f.text("address"), "verifier": v}, err
	}},
	"account-disable": {op: "account.disable", subject: by("address"), scoped: true, input: func(f form) (any, error) {
		return object{"address": f.text("address"), "disabled": f.on("disabled")}, nil
	}},
	"account-quota": {op: "account.quota", subject: by("address"), scoped: true, input: func(f form) (any, error) {
		bytes, err := f.octets("quota")
		messages, messagesErr := f.whole("messages")
		if err == nil {
			err = messagesErr
		}
		return object{"address": f.text("address"), "bytes": bytes, "messages": messages}, err
	}},
	"account-remove":  {op: "account.remove", subject: by("address"), scoped: true, input: named("address"), gone: "/admin/accounts"},
	"password-remove": {op: "password.remove", subject: by("address"), scoped: true, input: texts("address", "name")},

	"alias-add": {op: "alias.add", subject: by("address"), scoped: true, input: func(f form) (any, error) {
		return object{"address": f.text("address"), "targets": f.list("targets")}, nil
	}},
	"alias-remove": {op: "alias.remove", subject: by("address"), scoped: true, input: named("address")},

	"queue": {op: "queue.change", input: func(f form) (any, error) {
		change, known := map[string]storage.QueueChange{"retry": storage.QueueRetry, "hold": storage.QueueHold, "drop": storage.QueueDrop}[f.text("change")]
		if !known || len(f.Values["id"]) == 0 {
			return nil, invalid("pick recipients, and what is to become of them")
		}
		return object{"change": change, "ids": f.Values["id"]}, nil
	}},

	"invite": {op: "cluster.invite", show: true, input: func(f form) (any, error) {
		return object{"valid": 24 * time.Hour, "replica": f.on("replica")}, nil
	}},
	"node-remove":   {op: "cluster.remove", subject: by("node"), input: named("node")},
	"node-transfer": {op: "cluster.transfer", subject: by("node"), input: named("node")},

	"database-create": {op: "database.create", subject: by("name"), input: func(f form) (any, error) {
		quota, err := f.octets("quota")
		return object{"name": f.text("name"), "owner": f.text("owner"), "quota_bytes": quota}, err
	}},
	"database-drop":    {op: "database.drop", subject: by("name"), input: named("name")},
	"database-restore": {op: "database.restore", subject: by("name"), input: texts("name", "as")},
	"database-grant":   {op: "database.grant", subject: by("name"), input: texts("name", "address", "privilege")},

	"ban-add": {op: "ban.add", subject: by("network"), input: func(f form) (any, error) {
		network, err := network(f.text("network"))
		hours, hoursErr := f.whole("hours")
		if err == nil {
			err = hoursErr
		}
		in := object{"network": network, "reason": f.text("reason"), "force": f.on("force")}
		if hours > 0 && hours < 1<<20 {
			in["expires"] = f.now.Add(time.Duration(hours) * time.Hour)
		}
		return in, err
	}},
	"ban-lift": {op: "ban.lift", subject: by("network"), input: texts("network")},

	"spam-policy": {op: "spam.policy", subject: by("scope"), scoped: true, input: func(f form) (any, error) {
		in := object{"scope": f.text("scope"), "reset": f.on("reset")}
		if f.on("reset") {
			return in, nil
		}
		if mode := f.text("mode"); mode != "" {
			in["mode"] = mode
		}
		for _, name := range []string{"junk", "defer", "reject"} {
			share, err := f.share(name)
			if err != nil {
				return nil, err
			}
			in[name] = share
		}
		return in, nil
	}},
	"settings-try":       {op: "settings.try", show: true, input: func(f form) (any, error) { return object{"text": f.Get("text")}, nil }},
	"settings-apply":     {op: "settings.apply", show: true, input: func(f form) (any, error) { return object{"text": f.Get("text")}, nil }},
	"certificate-obtain": {op: "certificate.obtain", input: func(form) (any, error) { return object{}, nil }},
}

// network reads an address or a network; an IPv6 address stands for its /64.
func network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return storage.Network(a), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, invalid("%q is no address such as 192.0.2.1 and no network such as 192.0.2.0/24", text)
	}
	return p.Masked(), nil
}
