package storage

// queueSchema is what waits to be sent to other systems, and what is remembered
// of each message's way. Times are Unix milliseconds.
var queueSchema = []string{
	// A message with recipients elsewhere. message_id is its content, of which it
	// is one reference, or 0 once nothing is left to do with it; pending counts
	// the recipients that still need it. options are the bits of outboundOptions.
	`CREATE TABLE queue_message (
		id INTEGER PRIMARY KEY, message_id INTEGER NOT NULL, trail INTEGER NOT NULL, sender TEXT NOT NULL, envelope_id TEXT NOT NULL,
		options INTEGER NOT NULL, account_id INTEGER NOT NULL, size INTEGER NOT NULL, created INTEGER NOT NULL, pending INTEGER NOT NULL) STRICT`,
	// One recipient of such a message. next is when it is to be tried, lease the
	// token of who tries it, or 0; notice are the reports that the sender is still
	// to get of it, told those it has got; doubtful is 1 when a lease was lost: the
	// other system may have got the message without our knowing.
	`CREATE TABLE queue_recipient (
		id INTEGER PRIMARY KEY, queue_id INTEGER NOT NULL, address TEXT NOT NULL, domain TEXT NOT NULL, original TEXT NOT NULL,
		notify INTEGER NOT NULL, state INTEGER NOT NULL, attempts INTEGER NOT NULL, next INTEGER NOT NULL, lease INTEGER NOT NULL,
		notice INTEGER NOT NULL, told INTEGER NOT NULL, doubtful INTEGER NOT NULL,
		attempted INTEGER NOT NULL, node TEXT NOT NULL, remote TEXT NOT NULL, reply TEXT NOT NULL) STRICT`,
	`CREATE INDEX queue_recipient_queue ON queue_recipient (queue_id)`,
	`CREATE INDEX queue_recipient_due ON queue_recipient (domain, next) WHERE state = 0`,
	`CREATE INDEX queue_recipient_lease ON queue_recipient (lease) WHERE lease <> 0`,
	`CREATE INDEX queue_recipient_notice ON queue_recipient (queue_id) WHERE notice <> 0`,
	`CREATE INDEX queue_recipient_held ON queue_recipient (id) WHERE state = 2`,
	`CREATE INDEX queue_recipient_doubtful ON queue_recipient (id) WHERE doubtful <> 0`,
	// Each domain that has due recipients, and when the first of them is to be
	// tried: what finds work for all domains alike, however many recipients one has.
	`CREATE TABLE queue_destination (domain TEXT PRIMARY KEY, next INTEGER NOT NULL) STRICT, WITHOUT ROWID`,
	`CREATE INDEX queue_destination_next ON queue_destination (next)`,
	// token is the index of the command that gave the lease: it fences.
	`CREATE TABLE queue_lease (token INTEGER PRIMARY KEY, node TEXT NOT NULL, expires INTEGER NOT NULL) STRICT`,

	// The beginning of a message's way: who sent it to us, how, and for whom.
	// delivered and queued are addresses, one on each line.
	`CREATE TABLE trail (
		id INTEGER PRIMARY KEY, name TEXT NOT NULL, at INTEGER NOT NULL, node TEXT NOT NULL, sender TEXT NOT NULL,
		remote TEXT NOT NULL, via TEXT NOT NULL, verdict TEXT NOT NULL, size INTEGER NOT NULL,
		delivered TEXT NOT NULL, queued TEXT NOT NULL) STRICT`,
	`CREATE INDEX trail_name ON trail (name)`,
	// Finds trails by the address of a sender or recipient, in lower case.
	`CREATE TABLE trail_address (address TEXT NOT NULL, trail INTEGER NOT NULL, PRIMARY KEY (address, trail)) STRICT, WITHOUT ROWID`,
	// What happened to a message after that, one row for each recipient and step.
	`CREATE TABLE event (
		trail INTEGER NOT NULL, id INTEGER NOT NULL, at INTEGER NOT NULL, node TEXT NOT NULL, kind INTEGER NOT NULL,
		address TEXT NOT NULL, remote TEXT NOT NULL, reply TEXT NOT NULL, PRIMARY KEY (trail, id)) STRICT, WITHOUT ROWID`,
}
