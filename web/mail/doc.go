// Package mail is the webmail.
//
// A [Room] mounts its pages on the shell of package web. The account that is logged in reads its own mailboxes
// through a [Store], which storage.Store is; what it sends goes through a [Sender], which is the submission server: there is no other way out.
//
// A list shows threads: an index of this node says which messages belong together ([threads]); it is built from what storage
// knows of each message, grows with the mailbox and is thrown away when it is not asked for. Reading shows the messages of a
// thread, with what the account answered to them. Text is made into HTML here; HTML of a message is shown in a frame that has
// its own URL, a policy that allows nothing but what is in the document, no scripts and no origin, and is cleaned before that
// ([cleaner]): each of the three would be enough by itself. What is elsewhere is fetched only after a click.
//
// What is being written is a draft in the mailbox of drafts from its first saving on, as one message; sending puts it into the
// outbox of the replicated state, and [Room.Run] on the node that leads posts it when its time comes. Until then it can be taken back, on any node.
//
// Pages are made without script; mail.js makes them quicker: see DESIGN.md of package web.
package mail
