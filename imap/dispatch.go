package imap

import (
	"errors"
	"fmt"

	"trivet/imap/wire"
)

// call is one command while it runs. The embedded Decoder stands at its arguments, before the space.
type call struct {
	*wire.Decoder
	tag  string
	name string // in upper case: "FETCH", "UID FETCH"
	uid  bool   // numbers are UIDs, and so are those in responses
	code string // response code of the tagged OK; may be empty
	text string // its text; empty: "NAME completed"
	// limit is the response code that says that not all messages were processed (RFC 9738); empty: they were
	limit string
}

// verb is what the table knows of a command.
type verb struct {
	states state
	run    func(*session, *call) error
	// quiet: no EXPUNGE may be announced while the command runs, since its sequence numbers would
	// change their meaning (RFC 9051 section 7.5.1).
	quiet bool
	// numbered: it uses sequence numbers.
	numbered bool
}

// verbs is the whole command set: a new command is a line here and a file of its own.
var verbs = map[string]verb{
	"CAPABILITY":   {states: anyState, run: (*session).capability},
	"NOOP":         {states: anyState, run: (*session).noop},
	"LOGOUT":       {states: anyState, run: (*session).logout},
	"ID":           {states: anyState, run: (*session).id},
	"STARTTLS":     {states: notAuthenticated, run: (*session).startTLS},
	"AUTHENTICATE": {states: notAuthenticated, run: (*session).authenticate},
	"LOGIN":        {states: notAuthenticated, run: (*session).login},

	"ENABLE":      {states: loggedIn, run: (*session).enable},
	"SELECT":      {states: loggedIn, run: (*session).selectMailbox},
	"EXAMINE":     {states: loggedIn, run: (*session).examine},
	"CREATE":      {states: loggedIn, run: (*session).create},
	"DELETE":      {states: loggedIn, run: (*session).delete},
	"RENAME":      {states: loggedIn, run: (*session).rename},
	"SUBSCRIBE":   {states: loggedIn, run: (*session).subscribe},
	"UNSUBSCRIBE": {states: loggedIn, run: (*session).unsubscribe},
	"LIST":        {states: loggedIn, run: (*session).list},
	"LSUB":        {states: loggedIn, run: (*session).lsub},
	"NAMESPACE":   {states: loggedIn, run: (*session).namespace},
	"STATUS":      {states: loggedIn, run: (*session).mailboxStatus},
	"APPEND":      {states: loggedIn, run: (*session).append},
	"IDLE":        {states: loggedIn, run: (*session).idle},

	"NOTIFY":         {states: loggedIn, run: (*session).setNotify},
	"COMPRESS":       {states: loggedIn, run: (*session).compress},
	"UNAUTHENTICATE": {states: loggedIn, run: (*session).unauthenticate},
	"GETQUOTA":       {states: loggedIn, run: (*session).getQuota},
	"GETQUOTAROOT":   {states: loggedIn, run: (*session).getQuotaRoot},
	"SETQUOTA":       {states: loggedIn, run: (*session).setQuota},
	"GETACL":         {states: loggedIn, run: (*session).getACL},
	"SETACL":         {states: loggedIn, run: (*session).setACL},
	"DELETEACL":      {states: loggedIn, run: (*session).deleteACL},
	"LISTRIGHTS":     {states: loggedIn, run: (*session).listRights},
	"MYRIGHTS":       {states: loggedIn, run: (*session).myRights},
	"GETMETADATA":    {states: loggedIn, run: (*session).getMetadata},
	"SETMETADATA":    {states: loggedIn, run: (*session).setMetadata},
	"REPLACE":        {states: selected, run: (*session).replace, numbered: true},
	"UID REPLACE":    {states: selected, run: (*session).replace},
	"ESEARCH":        {states: loggedIn, run: (*session).multisearch},

	"CHECK":        {states: selected, run: (*session).noop},
	"CLOSE":        {states: selected, run: (*session).close},
	"UNSELECT":     {states: selected, run: (*session).leave},
	"EXPUNGE":      {states: selected, run: (*session).expunge},
	"SEARCH":       {states: selected, run: (*session).search, quiet: true, numbered: true},
	"FETCH":        {states: selected, run: (*session).fetch, quiet: true, numbered: true},
	"STORE":        {states: selected, run: (*session).store, quiet: true, numbered: true},
	"COPY":         {states: selected, run: (*session).copy, numbered: true},
	"MOVE":         {states: selected, run: (*session).move, numbered: true},
	"SORT":         {states: selected, run: (*session).sort, quiet: true, numbered: true},
	"THREAD":       {states: selected, run: (*session).thread, quiet: true, numbered: true},
	"UID SORT":     {states: selected, run: (*session).sort},
	"UID THREAD":   {states: selected, run: (*session).thread},
	"CANCELUPDATE": {states: selected, run: (*session).cancelUpdate},
	"UID EXPUNGE":  {states: selected, run: (*session).expunge},
	"UID SEARCH":   {states: selected, run: (*session).search},
	"UID FETCH":    {states: selected, run: (*session).fetch},
	"UID STORE":    {states: selected, run: (*session).store},
	"UID COPY":     {states: selected, run: (*session).copy},
	"UID MOVE":     {states: selected, run: (*session).move},
}

// dispatch runs one command to its tagged response. Its error ends the connection.
func (s *session) dispatch(d *wire.Decoder) error {
	s.commands++
	c := &call{Decoder: d, tag: d.Tag()}
	err := s.perform(c)
	// Whatever of the command was not read is skipped before it is answered, so that the answer is
	// to all of it and nothing of it can be taken for the next command.
	if finish := s.r.Finish(); finish != nil {
		return finish
	}
	if s.w.Err() != nil {
		return s.w.Err()
	}
	if !errors.Is(err, errAnswered) {
		s.tagged(c, err)
	}
	return nil
}

func (s *session) perform(c *call) error {
	v, err := s.lookup(c)
	if err != nil {
		return err
	}
	if err = v.run(s, c); s.view != nil && !s.leaving {
		if polled := s.poll(!v.quiet); err == nil {
			err = polled
		}
	}
	return err
}

// lookup reads the command's name and finds its handler.
func (s *session) lookup(c *call) (verb, error) {
	c.SP()
	c.name = c.Word()
	if c.name == "UID" {
		c.SP()
		c.name, c.uid = "UID "+c.Word(), true
	}
	if c.Err() != nil {
		return verb{}, c.Err()
	}
	v, ok := verbs[c.name]
	switch {
	case !ok:
		return verb{}, bad("Unknown command")
	case v.numbered && s.byUID():
		return verb{}, uidRequired()
	case v.states&s.state != 0:
		return v, nil
	case s.state == notAuthenticated:
		return verb{}, bad("Log in first")
	case s.state == authenticated && v.states == selected:
		return verb{}, bad("Select a mailbox first")
	}
	return verb{}, bad("Not possible after login")
}

// tagged writes the response that ends the command.
func (s *session) tagged(c *call, err error) {
	if err == nil {
		s.tellLimit(c)
	}
	tag := c.tag
	if tag == "" {
		tag = "*" // RFC 9051 section 7.1.3: what cannot be attributed to a command
	}
	s.w.Raw(tag)
	s.w.SP()
	if err == nil {
		s.bad = 0
		if c.text == "" {
			c.text = c.name + " completed"
		}
		s.status("OK", c.code, c.text)
		return
	}
	st, ok := answer(err)
	if !ok {
		s.log.Error("imap command failed", "command", c.name, "account", s.who.Address, "error", err)
	}
	s.status(st.word, st.code, st.text)
	s.countBad(st)
}

// countBad gives up on a client that does not speak IMAP.
func (s *session) countBad(st *status) {
	if st.word != "BAD" {
		return
	}
	s.bad++
	if most := s.server.limits.BadCommands; most > 0 && s.bad >= most {
		s.linger = true
		s.bye("", fmt.Sprintf("%d bad commands in a row", s.bad))
	}
}
