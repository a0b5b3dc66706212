package threat

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"trivet/spam"
	"trivet/storage/message"
)

// Known is whom one reader writes to, so that a borrowed name is noticed. Domains are organisational ones.
type Known struct {
	Domains []string
	Names   map[string][]string // display names in the form of [PlainName]: the addresses that have them
}

// Author is who a message says it is from.
type Author struct {
	Name    string // display name, decoded
	Address string
	Reply   string // address of Reply-To; empty: none
	Proven  bool   // DMARC passes for the domain
}

// AuthorOf reads the author of a message from its envelope.
func AuthorOf(e *message.Envelope, proven bool) Author {
	a := Author{Proven: proven}
	if i := slices.IndexFunc(e.From, func(m message.Address) bool { return m.Kind == message.Mailbox }); i >= 0 {
		a.Name, a.Address = message.DecodeHeader(e.From[i].Name), e.From[i].Addr()
	}
	if i := slices.IndexFunc(e.ReplyTo, func(m message.Address) bool { return m.Kind == message.Mailbox }); i >= 0 {
		a.Reply = e.ReplyTo[i].Addr()
	}
	return a
}

// PlainName is a display name in the form in which two that look alike are equal; empty: it says too little to
// tell people apart.
func PlainName(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r <= ' ' || strings.ContainsRune(`"'.,;()<>`, r) })
	if len(words) < 2 {
		return ""
	}
	for i, w := range words {
		words[i] = skeleton(w)
	}
	slices.Sort(words) // "Doe, Jane" is "Jane Doe"
	return strings.Join(words, " ")
}

// Phishing looks for borrowed names: of the author, and of links. own are the organisational domains hosted here.
func Phishing(a Author, links []Link, own []string) []spam.Reason {
	return append(author(a, own), linkReasons(a, links, own)...)
}

func domainOf(address string) string {
	return canonicalHost(address[strings.LastIndexByte(address, '@')+1:])
}

// author looks at who the message says it is from.
func author(a Author, hosted []string) []spam.Reason {
	var reasons []spam.Reason
	domain := Organization(domainOf(a.Address))
	if domain == "" {
		return nil
	}
	own := slices.Contains(hosted, domain)
	if other := addressIn(a.Name); other != "" && Organization(other) != domain {
		points := 2.0
		if slices.Contains(hosted, Organization(other)) {
			points = 4
		}
		reasons = append(reasons, spam.Reason{Name: "phishing.display-address", Points: points,
			Text: fmt.Sprintf("the sender's name shows an address of %s, the message is from %s", shown(other), shown(domain))})
	}
	if name := strings.ToLower(a.Name); !own && slices.ContainsFunc(hosted, func(d string) bool { return containsWord(name, d) }) {
		reasons = append(reasons, spam.Reason{Name: "phishing.own-name", Points: 2.5,
			Text: fmt.Sprintf("the sender calls itself %s, the message is from %s", shown(a.Name), shown(domain))})
	}
	if like, yes := LookAlike(domain, hosted); yes {
		reasons = append(reasons, spam.Reason{Name: "phishing.look-alike", Points: 3.5,
			Text: fmt.Sprintf("the sender's domain %s looks like %s", shown(domain), shown(like))})
	}
	if reply := Organization(domainOf(a.Reply)); a.Reply != "" && reply != domain && own && !slices.Contains(hosted, reply) {
		reasons = append(reasons, spam.Reason{Name: "phishing.reply-to", Points: 1.5,
			Text: fmt.Sprintf("answers go to %s, not to the sender's domain", shown(reply))})
	}
	return reasons
}

// containsWord reports whether a domain stands in a text, not as a part of another or of an address.
func containsWord(text, domain string) bool {
	at := strings.Index(text, domain)
	if at < 0 {
		return false
	}
	part := func(r byte) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '@' }
	end := at + len(domain)
	return (at == 0 || !part(text[at-1])) && (end == len(text) || !part(text[end]))
}

// Personal looks for a name that an author borrowed from those one reader writes to. It is for that reader's eyes: it
// tells whom they know.
func Personal(a Author, k Known) []spam.Reason {
	var reasons []spam.Reason
	domain := Organization(domainOf(a.Address))
	if domain == "" {
		return nil
	}
	if addresses := k.Names[PlainName(a.Name)]; PlainName(a.Name) != "" && len(addresses) > 0 &&
		!slices.ContainsFunc(addresses, func(s string) bool { return strings.EqualFold(s, a.Address) || Organization(domainOf(s)) == domain }) {
		reasons = append(reasons, spam.Reason{Name: "phishing.known-name", Points: 2.5,
			Text: fmt.Sprintf("it has the name of %s, whose address is another", shown(addresses[0]))})
	}
	if like, yes := LookAlike(domain, k.Domains); yes {
		reasons = append(reasons, spam.Reason{Name: "phishing.look-alike-known", Points: 3,
			Text: fmt.Sprintf("the sender's domain %s looks like %s, to which you write", shown(domain), shown(like))})
	}
	return reasons
}

// addressIn is the domain of an address in a display name; empty: there is none.
func addressIn(name string) string {
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`"'<>()[],;:`, r) }) {
		local, domain, found := strings.Cut(word, "@")
		if found && local != "" {
			if host := canonicalHost(strings.Trim(domain, ".")); host != "" {
				return host
			}
		}
	}
	return ""
}

// linkReasons looks at where links lead; each kind of reason is there once.
func linkReasons(a Author, links []Link, hosted []string) []spam.Reason {
	var reasons []spam.Reason
	add := func(name string, points float64, format string, args ...any) {
		if !slices.ContainsFunc(reasons, func(r spam.Reason) bool { return r.Name == name }) {
			reasons = append(reasons, spam.Reason{Name: name, Points: points, Text: fmt.Sprintf(format, args...)})
		}
	}
	var before Link
	for _, l := range links {
		if l == before { // a message repeats its links
			continue
		}
		before = l
		host := Organization(l.Host)
		if says := claimed(l.Text); says != "" && Organization(says) != host {
			points := 2.0
			if a.Proven { // newsletters count clicks; who they are is known
				points = 0.5
			}
			add("phishing.link-text", points, "a link shows %s and leads to %s", shown(says), shown(l.Host))
		}
		if l.User {
			add("phishing.link-user", 2.5, "a link to %s has a user name before the host", shown(l.Host))
		}
		if _, err := netip.ParseAddr(l.Host); err == nil {
			add("phishing.link-address", 1.5, "a link leads to the address %s", shown(l.Host))
		} else if like, yes := LookAlike(host, hosted); yes {
			add("phishing.link-look-alike", 3, "a link leads to %s, which looks like %s", shown(l.Host), shown(like))
		}
	}
	return reasons
}
