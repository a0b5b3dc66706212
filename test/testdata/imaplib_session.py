"""A session of Python's imaplib with a Trivet that already delivered a message.

Usage: imaplib_session.py IMAP-PORT SMTP-PORT LOGIN-FILE MESSAGE-FILE
"""
import email
import imaplib
import re
import smtplib
import sys
import time

imap_port, smtp_port, login, message_file = sys.argv[1:]
user, password = open(login).read().split("\n")
message = open(message_file, "rb").read()
LITERALS = ("BODY.PEEK[]", "BODY[]", "RFC822", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[MIME]")


def ok(reply):
    assert reply[0] == "OK", reply
    return reply[1]


def refused(call, *args):
    try:
        reply = call(*args)
    except imaplib.IMAP4.error as error:
        return str(error)
    assert reply[0] == "NO", reply
    return str(reply[1])


def connect():
    return imaplib.IMAP4("127.0.0.1", int(imap_port), timeout=60)


def text(reply):
    """All of a FETCH reply as one string of octets."""
    return b"".join(b"".join(part) if isinstance(part, tuple) else part for part in ok(reply) if part)


def literal(reply):
    return ok(reply)[0][1]


# Before the login: a wrong password, and commands out of place.
c = connect()
assert "IMAP4REV1" in c.capabilities and "AUTH=PLAIN" in c.capabilities, c.capabilities
assert "AUTHENTICATIONFAILED" in refused(c.login, user, "wrong")
try:
    c._simple_command("SELECT", "INBOX")
except imaplib.IMAP4.error:
    pass
ok(c.authenticate("PLAIN", lambda _: ("\0%s\0%s" % (user, password)).encode()))
assert "UIDPLUS" in c.capability()[1][0].decode()
assert c.logout()[0] == "BYE"
c = connect()
ok(c.login(user, password))
assert b'("" "/")' in ok(c.namespace())[0]

# Names.
names = [line.decode() for line in ok(c.list())]
for name, attribute in [("INBOX", ""), ("Sent", r"\Sent"), ("Drafts", r"\Drafts"), ("Trash", r"\Trash"), ("Junk", r"\Junk"), ("Archive", r"\Archive")]:
    assert any(n.endswith(' "/" ' + name) and attribute in n for n in names), (name, names)
ok(c.create("Imaplib/Sub"))
ok(c.create('"Entw&APw-rfe &- mehr"'))
assert any(b"Entw&APw-rfe &- mehr" in n for n in ok(c.list(pattern='"Entw*"')))
assert "EXISTS" in refused(c.create, "Imaplib/Sub").upper()
ok(c.subscribe("Imaplib/Sub"))
assert any(n.endswith(b"Imaplib/Sub") for n in ok(c.lsub()))
ok(c.unsubscribe("Imaplib/Sub"))
assert not any(n and n.endswith(b"Imaplib/Sub") for n in ok(c.lsub()))
ok(c.rename("Imaplib", "Python"))
assert ok(c.status("Python/Sub", "(MESSAGES UIDNEXT UNSEEN)"))[0] == b"Python/Sub (MESSAGES 0 UIDNEXT 1 UNSEEN 0)"
ok(c.delete('"Entw&APw-rfe &- mehr"'))
assert "NONEXISTENT" in refused(c.select, "Nowhere")

# What arrived, with every item.
count = int(ok(c.select("INBOX"))[0])
assert re.match(rb"\d+$", c.response("UIDVALIDITY")[1][0])
found = ok(c.search(None, "SUBJECT", '"imaplib"'))[0].split()
assert len(found) == 1 and int(found[0]) <= count, found
n = found[0].decode()
uid = re.search(rb"UID (\d+)", text(c.fetch(n, "(UID)"))).group(1).decode()
assert b"\\Seen" not in text(c.fetch(n, "(FLAGS)"))
stored = literal(c.fetch(n, "(BODY.PEEK[])"))
assert stored.endswith(message) and stored.startswith(b"Return-Path: <sender@elsewhere.example>\r\nReceived: from "), stored
assert stored[: -len(message)].count(b"\r\nReceived:") == 1
header, body = stored.split(b"\r\n\r\n", 1)
header += b"\r\n\r\n"
for item, want in [
    ("BODY.PEEK[HEADER]", header),
    ("BODY.PEEK[TEXT]", body),
    ("BODY.PEEK[1]", body),
    ("BODY.PEEK[]<0.10>", stored[:10]),
    ("BODY.PEEK[]<10.100000>", stored[10:]),
    ("BODY.PEEK[TEXT]<2.5>", body[2:7]),
    ("RFC822.HEADER", header),
    ("BINARY.PEEK[1]", body),
    ("BODY.PEEK[HEADER.FIELDS (SUBJECT x-folded)]", b"SUBJECT:imaplib\r\nX-Folded: a\r\n\tb\r\n  c \r\n\r\n"),
]:
    got = literal(c.fetch(n, "(%s)" % item))
    assert got == want, (item, got, want)
assert b"From: " not in literal(c.fetch(n, "(BODY.PEEK[HEADER.FIELDS.NOT (FROM)])"))
assert b"RFC822.SIZE %d" % len(stored) in text(c.fetch(n, "(RFC822.SIZE)"))
assert b'INTERNALDATE "' in text(c.fetch(n, "(INTERNALDATE)"))
assert imaplib.Internaldate2tuple(text(c.fetch(n, "(INTERNALDATE)")))
envelope = text(c.fetch(n, "(ENVELOPE)"))
assert b'ENVELOPE (NIL "imaplib" (("Odd" NIL "odd" "elsewhere.example")) ' in envelope, envelope
assert b'("TEXT" "PLAIN" ' in text(c.fetch(n, "(BODYSTRUCTURE)")).upper()
assert b"BODY (" in text(c.fetch(n, "(BODY)"))
for macro, items in [("ALL", 4), ("FAST", 3), ("FULL", 5)]:
    reply = text(c.fetch(n, macro))
    got = sum(word in reply for word in (b"FLAGS (", b"INTERNALDATE ", b"RFC822.SIZE ", b"ENVELOPE (", b"BODY ("))
    assert got == items, (macro, reply)
assert b"\\Seen" not in text(c.fetch(n, "(FLAGS)")), "PEEK marked it as read"
assert literal(c.fetch(n, "(RFC822)")) == stored
assert b"\\Seen" in text(c.fetch(n, "(FLAGS)"))
assert email.message_from_bytes(stored)["Subject"] == "imaplib"
assert len(ok(c.fetch("1:*", "(UID FLAGS)"))) == count

# Flags.
assert b"\\Flagged" in text(c.store(n, "+FLAGS", r"(\Flagged $Forwarded)"))
assert ok(c.store(n, "+FLAGS.SILENT", r"(\Answered)")) == [None]
assert b"\\Flagged" not in text(c.uid("STORE", uid, "-FLAGS", r"\Flagged"))
assert b"FLAGS (" in text(c.store(n, "FLAGS", r"(\Seen imaplib-keyword)"))

# Searches.
for criteria, hit in [
    ("ALL", True), ("KEYWORD imaplib-keyword", True), ("UNKEYWORD imaplib-keyword", False), ("SEEN", True), ("UNSEEN", False),
    ("FROM odd@elsewhere", True), ("TO %s" % user, True), ("HEADER X-Folded b", True), ('BODY "the end"', True), ('TEXT "The End"', True),
    ("NOT TEXT nowhere-to-be-found", True), ("OR ANSWERED SEEN", True), ("LARGER 100 SMALLER 100000", True), ("UID %s" % uid, True),
    ("SINCE 1-Jan-2020 BEFORE 1-Jan-2100", True), ("(%s SUBJECT imaplib)" % n, True), ("DELETED", False), ("DRAFT", False),
]:
    got = ok(c.search(None, criteria))[0].split()
    assert (n.encode() in got) == hit, (criteria, got)
assert uid.encode() in ok(c.uid("SEARCH", "CHARSET", "UTF-8", "SUBJECT", "imaplib"))[0].split()
c.literal = "the end".encode()
assert n.encode() in ok(c._command_complete("SEARCH", c._command("SEARCH", "CHARSET", "UTF-8", "TEXT")) and c._untagged_response("OK", [None], "SEARCH"))[0].split()

# Copies and additions.
ok(c.copy(n, "Python/Sub"))
assert re.match(rb"\d+ %s 1" % uid.encode(), c.response("COPYUID")[1][0])
ok(c.uid("COPY", uid, "Python/Sub"))
assert "TRYCREATE" in refused(c.copy, n, "Nowhere")
date = imaplib.Time2Internaldate(1_500_000_000)
ok(c.append("Python/Sub", r"(\Draft \Seen)", date, message))
assert re.match(rb"\d+ 3", c.response("APPENDUID")[1][0])
assert "TRYCREATE" in refused(c.append, "Nowhere", None, None, message)
ok(c.select("Python/Sub"))
assert literal(c.fetch("3", "(BODY.PEEK[])")) == message
third = text(c.fetch("3", "(FLAGS INTERNALDATE)"))
assert b"\\Draft" in third and b"\\Seen" in third and b"14-Jul-2017" in third, third
assert b"imaplib-keyword" in text(c.fetch("1", "(FLAGS)")), "a copy keeps its flags"

# Removals: one by its number, one by its UID, one moved away.
ok(c.store("1", "+FLAGS", r"(\Deleted)"))
assert ok(c.expunge()) == [b"1"]
ok(c.uid("STORE", "2:3", "+FLAGS.SILENT", r"(\Deleted)"))
ok(c.uid("EXPUNGE", "3"))
assert ok(c.uid("SEARCH", "ALL"))[0] == b"2"
ok(c.uid("STORE", "2", "-FLAGS.SILENT", r"(\Deleted)"))
imaplib.Commands.setdefault("MOVE", ("SELECTED",))
ok(c.uid("MOVE", "2", "Trash"))
assert ok(c.search(None, "ALL"))[0] == b""
ok(c.noop())
ok(c.check())
ok(c.close())

# A read-only mailbox refuses changes.
ok(c.select("Trash", readonly=True))
assert "READ-ONLY" in refused(c.store, "1", "+FLAGS", r"(\Deleted)").upper()
ok(c.unselect())

# IDLE wakes up when mail arrives over SMTP. imaplib has no IDLE before Python 3.14.
ok(c.select("INBOX"))
before = int(c.response("EXISTS")[1][0] or count)
c.send(b"idle1 IDLE\r\n")
assert c.readline().startswith(b"+ ")
with smtplib.SMTP("127.0.0.1", int(smtp_port), timeout=60) as sender:
    sender.sendmail("sender@elsewhere.example", [user], "Subject: wake up\r\n\r\nwake up\r\n")
    delivered = time.monotonic()
while True:
    line = c.readline()
    assert line.startswith(b"* "), line
    if line == b"* %d EXISTS\r\n" % (before + 1):
        break
print("IDLE told of it %.1f ms after the 250" % (1000 * (time.monotonic() - delivered)))
c.send(b"DONE\r\n")
while not line.startswith(b"idle1 "):
    line = c.readline()
assert line.startswith(b"idle1 OK"), line

# The connection is cut in the middle of a command; what was done before is there for the next one.
validity = c.response("UIDVALIDITY")[1]
ok(c.uid("STORE", uid, "+FLAGS.SILENT", "cut"))
c.send(b"x1 APPEND INBOX {1000}\r\nSubject: half")
c.sock.close()
c = connect()
ok(c.login(user, password))
assert int(ok(c.select("INBOX"))[0]) == before + 1
assert validity == [None] or c.response("UIDVALIDITY")[1] == validity
assert ok(c.uid("SEARCH", "KEYWORD cut"))[0].split() == [uid.encode()]
assert ok(c.search(None, "SUBJECT half"))[0] == b""
ok(c.delete("Python/Sub"))
ok(c.delete("Python"))
assert c.logout()[0] == "BYE"
print("all done")
