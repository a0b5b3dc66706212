package message

// Envelope is the header of a message as IMAP's ENVELOPE shows it: unfolded, not decoded. Texts may hold any byte but
// NUL, CR and LF.
type Envelope struct {
	Date, Subject         string
	From, Sender, ReplyTo []Address // Sender and ReplyTo are From where the message has none (RFC 9051, 7.5.2)
	To, Cc, Bcc           []Address
	InReplyTo, MessageID  string
	Has                   EnvelopeFields
}

// EnvelopeFields tells which text fields a message has: one that is there but empty is "" in IMAP, one that is not is
// NIL.
type EnvelopeFields uint8

// The text fields of an Envelope.
const (
	HasDate EnvelopeFields = 1 << iota
	HasSubject
	HasInReplyTo
	HasMessageID
)

// set stores a field and returns how many addresses it brought.
func (e *Envelope) set(id fieldID, value string) int {
	switch id {
	case fieldDate:
		e.Date, e.Has = value, e.Has|HasDate
	case fieldSubject:
		e.Subject, e.Has = value, e.Has|HasSubject
	case fieldInReplyTo:
		e.InReplyTo, e.Has = value, e.Has|HasInReplyTo
	case fieldMessageID:
		e.MessageID, e.Has = value, e.Has|HasMessageID
	}
	list := e.list(id)
	if list == nil {
		return 0
	}
	before := len(*list)
	if before < MaxAddresses-1 {
		*list = appendAddresses(*list, value)
	}
	return len(*list) - before
}

// list is the address list a field belongs to, or nil.
func (e *Envelope) list(id fieldID) *[]Address {
	switch id {
	case fieldFrom:
		return &e.From
	case fieldSender:
		return &e.Sender
	case fieldReplyTo:
		return &e.ReplyTo
	case fieldTo:
		return &e.To
	case fieldCc:
		return &e.Cc
	case fieldBcc:
		return &e.Bcc
	}
	return nil
}

// setDefaults makes Sender and ReplyTo what IMAP shows when they are missing or empty.
func (e *Envelope) setDefaults() {
	if len(e.Sender) == 0 {
		e.Sender = e.From
	}
	if len(e.ReplyTo) == 0 {
		e.ReplyTo = e.From
	}
}

// AppendIMAP appends the parenthesised ENVELOPE of RFC 9051, 7.5.2. Texts of printable ASCII are quoted strings, others
// literals.
func (e *Envelope) AppendIMAP(dst []byte) []byte {
	sender, replyTo := e.Sender, e.ReplyTo
	if len(sender) == 0 {
		sender = e.From
	}
	if len(replyTo) == 0 {
		replyTo = e.From
	}
	dst = append(dst, '(')
	dst = appendField(dst, e.Date, e.Has&HasDate != 0)
	dst = append(dst, ' ')
	dst = appendField(dst, e.Subject, e.Has&HasSubject != 0)
	for _, list := range [...][]Address{e.From, sender, replyTo, e.To, e.Cc, e.Bcc} {
		dst = append(dst, ' ')
		dst = appendAddressList(dst, list)
	}
	dst = append(dst, ' ')
	dst = appendField(dst, e.InReplyTo, e.Has&HasInReplyTo != 0)
	dst = append(dst, ' ')
	dst = appendField(dst, e.MessageID, e.Has&HasMessageID != 0)
	return append(dst, ')')
}

func appendAddressList(dst []byte, list []Address) []byte {
	if len(list) == 0 {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	for i := range list {
		dst = appendAddress(dst, &list[i])
	}
	return append(dst, ')')
}

// appendAddress appends one address. A NIL host marks a group, so a missing one is "".
func appendAddress(dst []byte, a *Address) []byte {
	switch a.Kind {
	case GroupStart:
		dst = append(dst, "(NIL NIL "...)
		dst = appendString(dst, a.Mailbox)
		return append(dst, " NIL)"...)
	case GroupEnd:
		return append(dst, "(NIL NIL NIL NIL)"...)
	}
	dst = append(dst, '(')
	dst = appendNString(dst, a.Name)
	dst = append(dst, ' ')
	dst = appendNString(dst, a.Route)
	dst = append(dst, ' ')
	dst = appendString(dst, a.Mailbox)
	dst = append(dst, ' ')
	dst = appendString(dst, a.Host)
	return append(dst, ')')
}

// appendField appends a text that is NIL if the message does not have the field.
func appendField(dst []byte, s string, has bool) []byte {
	if !has {
		return appendNString(dst, s)
	}
	return appendString(dst, s)
}
