package smtp

import (
	"slices"
	"strings"

	"trivet/spf/dmarc"
	"trivet/storage"
	"trivet/storage/message"
)

// deliveredTo is the field in which a system that sends mail on notes for which
// address it did, so that it sees when the mail comes back.
const deliveredTo = "Delivered-To"

// comesBack reports whether the message has been sent on for an address before.
func (p *parcel) comesBack(address string) bool {
	for f := range message.Fields(p.header) {
		if f.Is(deliveredTo) && strings.EqualFold(f.Value(), address) {
			return true
		}
	}
	return false
}

// outbound are the recipients elsewhere that an address leads to when it was
// submitted, and, for a report of success, the address itself when it is here.
func (r *recipient) outbound() []storage.OutboundRecipient {
	var list []storage.OutboundRecipient
	original := r.original
	if original == "" && r.notify != 0 {
		original = "rfc822;" + r.path.String() // RFC 3461 section 5.2.1
	}
	if !r.to.Local {
		return []storage.OutboundRecipient{{Address: r.path.String(), Original: r.original, Notify: r.notify}}
	}
	for _, address := range r.to.Remote {
		list = append(list, storage.OutboundRecipient{Address: address, Original: original, Notify: r.notify})
	}
	if r.notify&storage.NotifySuccess != 0 && (len(r.to.Accounts) > 0 || len(r.to.Groups) > 0) {
		list = append(list, storage.OutboundRecipient{Address: r.path.String(), Original: r.original, Notify: r.notify, Delivered: true})
	}
	return list
}

// forwarding is what is sent on for an address whose mail goes elsewhere. Its
// reverse path is one of ours, so that SPF holds and failures come back.
func (s *session) forwarding(p *parcel, r recipient) (posting, *reply) {
	address := r.path.String()
	if p.comesBack(address) {
		return posting{}, errLoop
	}
	sender, err := s.server.rewrite(s.mail.from, r.path.domain)
	if err != nil {
		return posting{}, errTemporary
	}
	if r.returned { // a failure of what was forwarded goes to who sent that
		sender = path{}
	}
	post := posting{key: "forward " + address, sender: sender, fields: []byte(deliveredTo + ": " + address + "\r\n"), sealer: r.path.domain}
	for _, target := range r.to.Remote {
		post.outbound = append(post.outbound, storage.OutboundRecipient{Address: target})
	}
	return post, nil
}

// expansion is what the members of a group get. Who sent it stays in From; what
// cannot be delivered goes to the group's owner.
func (s *session) expansion(p *parcel, g storage.Group) (posting, *reply) {
	if p.comesBack(g.Address) {
		return posting{}, errLoop
	}
	if r := s.mayPost(p, g); r != nil {
		return posting{}, r
	}
	owner, _, ok := parsePath("<" + quoteAddress(g.Owner) + ">")
	if !ok {
		return posting{}, errTemporary
	}
	domain := g.Address[strings.LastIndexByte(g.Address, '@')+1:]
	post := posting{key: "group " + g.Address, sender: owner, fields: listFields(g), signers: slices.Clone(p.author), sealer: domain}
	if !slices.Contains(post.signers, domain) {
		post.signers = append(post.signers, domain)
	}
	if s.mail.from == (path{}) {
		post.sender = path{} // never a report of a report
	}
	for _, a := range g.Accounts {
		post.accounts = append(post.accounts, a.ID)
	}
	for _, address := range g.Remote {
		post.outbound = append(post.outbound, storage.OutboundRecipient{Address: address})
	}
	if post.goesNowhere() {
		return posting{}, errNoUser
	}
	return post, nil
}

// listFields are what RFC 2369 and RFC 2919 say a list puts in front.
func listFields(g storage.Group) []byte {
	local, domain, _ := strings.Cut(g.Address, "@")
	name := ""
	if g.Name != "" && isASCII(g.Name) {
		name = `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(g.Name) + `" `
	}
	uri := mailtoEscape(g.Address)
	var b strings.Builder
	b.WriteString(deliveredTo + ": " + g.Address + "\r\n")
	b.WriteString("List-Id: " + name + "<" + listLabel(local) + "." + domain + ">\r\n")
	b.WriteString("List-Post: <mailto:" + uri + ">\r\n")
	b.WriteString("List-Owner: <mailto:" + mailtoEscape(g.Owner) + ">\r\n")
	b.WriteString("List-Unsubscribe: <mailto:" + mailtoEscape(g.Owner) + "?subject=unsubscribe%20" + uri + ">\r\n")
	b.WriteString("Precedence: list\r\n")
	return []byte(b.String())
}

// listLabel makes a local part fit for a list-id (RFC 2919 section 2).
func listLabel(local string) string {
	return strings.Map(func(c rune) rune {
		if isAlphanumeric(c) || c == '-' || c == '_' || c == '.' {
			return c
		}
		return '-'
	}, local)
}

// mailtoEscape writes an address into a URI (RFC 6068 section 2).
func mailtoEscape(address string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(address) {
		if c := address[i]; isAlphanumeric(rune(c)) || strings.IndexByte("-._~!$'*+@", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

// quoteAddress writes a canonical address as a mailbox.
func quoteAddress(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return address
	}
	return quoteLocal(address[:i]) + address[i:]
}

var errNotPoster = answer(550, 5, 7, 2, "You may not send to this group")

// mayPost refuses a message to a group from who is not among its senders: by the
// account, if there is one, else by the reverse path and every author. Neither
// proves more than SPF, DKIM and DMARC have made sure of; an address of this
// system counts only for who has logged in.
func (s *session) mayPost(p *parcel, g storage.Group) *reply {
	if g.Senders == storage.SendersAnyone {
		return nil
	}
	if s.who.AccountID != 0 {
		if allowed, err := s.mayAccountPost(g); err != nil {
			return failure(err)
		} else if allowed {
			return nil
		}
		return errNotPoster
	}
	if p.found != nil && p.found.DMARC.Result == dmarc.Fail && !s.server.cfg.Verification.Monitor {
		return errNotPoster // whoever it was
	}
	authors := []string{s.mail.from.String()}
	for f := range message.Fields(p.header) {
		if f.Is("From") {
			list, ok := addressList(f.Value())
			if !ok {
				return errNotPoster
			}
			authors = append(authors, list...)
		}
	}
	if len(authors) < 2 {
		return errNotPoster
	}
	for _, author := range authors {
		if allowed, err := s.mayAddressPost(g, author); err != nil {
			return failure(err)
		} else if !allowed {
			return errNotPoster
		}
	}
	return nil
}

func (s *session) mayAccountPost(g storage.Group) (bool, error) {
	if g.Senders == storage.SendersDomain {
		return true, nil
	}
	if g.Senders == storage.SendersMembers && slices.ContainsFunc(g.Accounts, func(a storage.Account) bool { return a.ID == s.who.AccountID }) {
		return true, nil
	}
	for _, address := range g.Listed {
		if owns, err := s.server.owns(s.server.ctx, s.who.AccountID, address); owns || err != nil {
			return owns, err
		}
	}
	return false, nil
}

// mayAddressPost is for senders who have not logged in: members and listed
// senders elsewhere.
func (s *session) mayAddressPost(g storage.Group, address string) (bool, error) {
	local, domain, err := storage.CanonicalAddress(address)
	if err != nil {
		return false, nil
	}
	to, err := s.server.cfg.Store.Resolve(s.server.ctx, address)
	if err != nil || to.Local {
		return false, err
	}
	address = local + "@" + domain
	return slices.Contains(g.Listed, address) || g.Senders == storage.SendersMembers && slices.Contains(g.Remote, address), nil
}
