// Package message reads RFC 5322 / MIME messages: where everything is, what the header says, what the text reads like.
// It computes offsets and summaries only; the bytes of a message are kept by others and served exactly as received.
//
// The mental model is four types:
//
//   - [Scanner] is an io.Writer that watches a message go by once, in pieces of any size, beside a hash or a file. It
//     keeps the header of the part it is in, a stack of open parts, and up to two short samples of text; nothing in the
//     content makes it fail, grow without bound, or slow down.
//   - [Message] is what it saw: size, [Envelope], the tree of parts, sent date, preview.
//   - [Part] is one node of that tree, with absolute byte offsets. [Part.Find] and [Part.Span] turn an IMAP section
//     (RFC 9051, 6.4.5) into a byte range; [Part.AppendBodyStructure] writes BODY and BODYSTRUCTURE.
//   - [Envelope] holds the raw, still encoded header text of the IMAP ENVELOPE; [Envelope.AppendIMAP] writes the form
//     that is stored once and copied into every FETCH, [ParseEnvelope] reads it back for SEARCH.
//
// [Message.AppendStructure] and [ParseStructure] are the stored form of the tree.
//
// # What a line, a header and a part are
//
// A line ends with LF; a CR before it belongs to the line end, a bare CR is content. A header ends at the first empty
// line, or, inside a multipart, at a boundary; a line in it without a colon (an mbox "From " line, stray text) is kept
// as bytes and means nothing. A continuation belongs to the line above it. The line end before a boundary belongs to
// the boundary (RFC 2046, 5.1.1), so a part's Lines counts the line ends that are inside its body.
//
// # Decisions on malformed mail
//
// Each was compared with Dovecot 2.3.19 and follows it unless a reason is given.
//
//   - A multipart without a boundary parameter, or none of whose boundaries occur, has one empty text/plain part, so
//     that BODYSTRUCTURE is valid. An empty boundary counts as none (Dovecot splits at every line that starts with
//     "--", which would cut signatures).
//   - A line starting with "--" and a boundary delimits even if more follows (RFC 2046, 5.1.1); of several open
//     boundaries that fit, the longest wins, and of equal ones the innermost. After its closing delimiter a boundary no
//     longer counts. A missing closing delimiter is no loss.
//   - A multipart or message beyond [MaxDepth] is one application/octet-stream leaf; the part that would exceed
//     [MaxParts] is an opaque application/octet-stream leaf that extends to the end of the message.
//   - A Content-Type that cannot be read is text/plain (RFC 2045, 5.2; Dovecot answers with empty strings). Of several
//     Content-* fields of one name the first counts.
//   - What ends at an outer boundary ends before that boundary's line end, also if its own last line is a delimiter or
//     part of a header (Dovecot then counts two bytes and a line more in an enclosing message/rfc822).
//   - Types, encodings, disposition types and parameter names are lower case (Dovecot keeps the sender's case; IMAP
//     compares them without case). Values are kept as sent. A text part without charset is announced as us-ascii.
//   - RFC 2231 parameters stay encoded: continuations are joined, in order, to one "name*" (or "name", where no segment
//     was encoded). [Params.Get] decodes.
//   - message/rfc822 and message/global are always read as a message, even when a transfer encoding was declared, as
//     their BODYSTRUCTURE must have an envelope (Dovecot knows only rfc822; RFC 9051 requires both).
//   - Repeated Date, Subject, Message-ID, In-Reply-To: the last counts, the one a DKIM signature covers first. Repeated
//     address fields are one list.
//   - An address without a domain has the host "" and one without a local part the mailbox "" (Dovecot invents
//     MISSING_DOMAIN and MISSING_MAILBOX, which then can be found by SEARCH). NIL stays reserved for groups.
//   - Strings with 8-bit bytes go out as literals, valid for IMAP4rev1 and rev2 clients alike, with the bytes as
//     received; NUL is dropped; a fold becomes one space.
package message
