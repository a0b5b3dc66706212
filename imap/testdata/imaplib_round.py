# A round of what a mail program does, with Python's imaplib: host port user password.
import imaplib
import sys

host, port, user, password = sys.argv[1:]


def check(answer, *wanted):
    typ, data = answer
    assert typ == "OK", answer
    text = repr(data)
    for w in wanted:
        assert w in text, (w, data)
    return data


m = imaplib.IMAP4(host, int(port))
assert "IMAP4REV1" in m.capabilities, m.capabilities
try:
    m.login(user, "wrong")
    sys.exit("a wrong password was taken")
except imaplib.IMAP4.error as e:
    assert "AUTHENTICATIONFAILED" in str(e), e
check(m.authenticate("PLAIN", lambda _: b"\0" + user.encode() + b"\0" + password.encode()))
check(m.namespace(), '"/"')
check(m.list(), "INBOX", "Sent")
check(m.create("Work/2026"))
check(m.subscribe("Work/2026"))
check(m.lsub(), "Work/2026")
check(m.select(), "3")
check(m.search(None, "ALL"), "1 2 3")
check(m.fetch("1:*", "(FLAGS)"))
check(m.fetch("2", "(RFC822)"), "Message number 1")
check(m.fetch("2", "(FLAGS)"), "Seen")
check(m.store("1", "+FLAGS", "\\Flagged"), "Flagged")
check(m.uid("COPY", "1:2", "Work/2026"))
check(m.append("Work/2026", "(\\Seen)", imaplib.Time2Internaldate(1e9), b"Subject: appended\r\n\r\nhello\r\n"), "APPENDUID")
check(m.status("Work/2026", "(MESSAGES UNSEEN)"), "MESSAGES 3", "UNSEEN 1")
check(m.store("3", "+FLAGS.SILENT", "(\\Deleted)"))
check(m.expunge(), "3")
check(m.noop())
check(m.check())
check(m.close())
check(m.select("Work/2026", readonly=True), "3")
check(m.uid("SEARCH", "SUBJECT", "appended"), "3")
check(m.unselect())
check(m.rename("Work/2026", "Old"))
check(m.delete("Old"))
m.logout()
print("ok")
