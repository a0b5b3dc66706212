package smtp

import (
	"errors"
	"strconv"

	gosmtp "github.com/emersion/go-smtp"

	"trivet/storage"
)

// reply is what a command is answered with: RFC 5321 section 4.2 with the
// enhanced code of RFC 3463. It is an error to go-smtp, a 250 included.
type reply = gosmtp.SMTPError

func answer(code, class, subject, detail int, text string) *reply {
	return &reply{Code: code, EnhancedCode: gosmtp.EnhancedCode{class, subject, detail}, Message: text}
}

// The replies that do not depend on anything.
var (
	errTimeout      = answer(421, 4, 4, 2, "Timeout, closing connection")
	errEarly        = answer(554, 5, 5, 1, "You spoke before the greeting (RFC 5321 section 3.1), closing connection")
	errShutdown     = answer(421, 4, 3, 2, "Service shutting down, try again")
	errCommandLong  = answer(500, 5, 5, 2, "Line too long")
	errBareLineEnd  = answer(500, 5, 5, 2, "Command lines end with CRLF (RFC 5321 section 2.3.8)")
	errControl      = answer(500, 5, 5, 2, "Control character in command")
	errUnknown      = answer(500, 5, 5, 2, "Command not recognized")
	errTooMany      = answer(421, 4, 7, 0, "Too many errors, closing connection")
	errProbing      = answer(421, 4, 7, 0, "Too many refused recipients, closing connection")
	errHello        = answer(501, 5, 5, 4, "EHLO takes a domain or an address literal")
	errHelloFirst   = answer(503, 5, 5, 1, "Send EHLO first")
	errNested       = answer(503, 5, 5, 1, "Nested MAIL command")
	errNoMail       = answer(503, 5, 5, 1, "Send MAIL first")
	errNoRecipients = answer(554, 5, 5, 1, "No valid recipients")
	errInChunks     = answer(503, 5, 5, 1, "Only BDAT, NOOP, RSET and QUIT are allowed between chunks")
	errDataArgument = answer(501, 5, 5, 4, "DATA takes no argument")
	errChunkSize    = answer(501, 5, 5, 4, "BDAT takes a size and perhaps LAST, closing connection")
	errNoAuth       = answer(502, 5, 5, 1, "AUTH is not available here, use the submission service")
	errNoTLS        = answer(502, 5, 5, 1, "TLS is not available")
	errTLSAlready   = answer(503, 5, 5, 1, "TLS is in use already")
	errTLSArgument  = answer(501, 5, 5, 4, "STARTTLS takes no argument")
	errMailSyntax   = answer(501, 5, 5, 4, "Syntax: MAIL FROM:<address>")
	errRcptSyntax   = answer(501, 5, 5, 4, "Syntax: RCPT TO:<address>")
	errSender       = answer(501, 5, 1, 7, "Bad sender address syntax")
	errRecipient    = answer(501, 5, 1, 3, "Bad recipient address syntax")
	errNeedUTF8     = answer(553, 5, 6, 7, "Internationalized address needs SMTPUTF8")
	errParameter    = answer(555, 5, 5, 4, "Parameter not recognized or not implemented")
	errParamValue   = answer(501, 5, 5, 4, "Bad parameter value")
	errTooLarge     = answer(552, 5, 3, 4, "Message too large")
	errHeaderLarge  = answer(552, 5, 3, 4, "Message header too large")
	errTextLine     = answer(550, 5, 6, 0, "Line too long in message")
	errBareCR       = answer(550, 5, 6, 0, "Bare CR in message (RFC 5321 section 2.3.8)")
	errBareLF       = answer(550, 5, 6, 0, "Bare LF in message (RFC 5321 section 2.3.8)")
	errNUL          = answer(550, 5, 6, 0, "NUL in message (RFC 5322 section 3.5)")
	errLoop         = answer(554, 5, 4, 6, "Too many hops, this is a mail loop")
	errNoUser       = answer(550, 5, 1, 1, "No such user here")
	errNoRelay      = answer(550, 5, 7, 1, "Relaying denied")
	errOverQuota    = answer(452, 4, 2, 2, "Mailbox full")
	errBroken       = answer(451, 4, 3, 0, "Message was not received whole")
	errTemporary    = answer(451, 4, 3, 0, "Temporary failure, try again")
	errBusy         = answer(421, 4, 7, 0, "Too many connections, try again later")
	errAddressBusy  = answer(421, 4, 7, 0, "Too many connections from your address, try again later")
)

// kindReplies maps what the storage fails with; a kind that is not listed is
// errTemporary. An outcome that is unknown is temporary too: the client's
// retry has the same digest and is delivered once.
var kindReplies = map[storage.Kind]*reply{
	storage.KindNotFound:  errNoUser,
	storage.KindInvalid:   errRecipient,
	storage.KindOverQuota: errOverQuota,
	storage.KindTooLarge:  errTooLarge,
	storage.KindDiskFull:  answer(452, 4, 3, 1, "Not enough storage, try again later"),
	storage.KindDenied:    answer(550, 5, 7, 1, "Not permitted"),
}

// failure is the reply to an error of the storage.
func failure(err error) *reply {
	var e *storage.Error
	if errors.As(err, &e) && e.Kind == storage.KindLimited {
		return answer(450, 4, 7, 1, "You have sent as much as you may in an hour: "+shorten(e.Hint))
	}
	if r, ok := kindReplies[storage.KindOf(err)]; ok {
		return r
	}
	return errTemporary
}

// appendReply appends r as one line.
func appendReply(dst []byte, r *reply) []byte {
	dst = strconv.AppendInt(dst, int64(r.Code), 10)
	for i, n := range r.EnhancedCode {
		dst = append(dst, " .."[i])
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	dst = append(dst, ' ')
	dst = append(dst, r.Message...)
	return append(dst, "\r\n"...)
}

// isProtocolError reports whether a code says that the client speaks SMTP
// badly, as opposed to being refused what it asks for.
func isProtocolError(code int) bool {
	return code >= 500 && code <= 504 || code == 555
}
