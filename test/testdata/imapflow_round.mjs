// A round of Node's imapflow with a Trivet: read, flag, move, append, search, idle, reconnect.
// Usage: node imapflow_round.mjs MODULE-FOLDER IMAP-PORT SMTP-PORT LOGIN-FILE
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';

const [modules, imapPort, smtpPort, loginFile] = process.argv.slice(2);
const { ImapFlow } = createRequire(modules + '/')('imapflow');
const [user, pass] = readFileSync(loginFile, 'utf8').split('\n');

async function open() {
  const client = new ImapFlow({
    host: '127.0.0.1', port: Number(imapPort), secure: false, doSTARTTLS: false, auth: { user, pass },
    logger: false, qresync: true, emitLogs: false,
  });
  client.on('error', () => {}); // a cut connection is one; the round notices by itself
  await client.connect();
  return client;
}

// send delivers a message over SMTP, line by line.
function send(subject) {
  return new Promise((resolve, reject) => {
    const lines = ['EHLO client.example', 'MAIL FROM:<sender@elsewhere.example>', `RCPT TO:<${user}>`, 'DATA',
      `Subject: ${subject}\r\n\r\nThis is ${subject}.\r\n.`, 'QUIT'];
    const socket = connect(Number(smtpPort), '127.0.0.1');
    let text = '';
    socket.on('error', reject);
    socket.on('close', () => (lines.length === 0 ? resolve() : reject(new Error(text))));
    socket.on('data', data => {
      text += data;
      for (let m; (m = /^(?:\d{3}-[^\n]*\n)*(\d)\d\d [^\n]*\n/.exec(text)); text = text.slice(m[0].length)) {
        if (m[1] > '3') { socket.destroy(); return reject(new Error(m[0])); }
        if (lines.length > 0) socket.write(lines.shift() + '\r\n');
      }
    });
  });
}

let client = await open();
for (const name of ['IDLE', 'MOVE', 'UIDPLUS', 'CONDSTORE', 'QRESYNC', 'SPECIAL-USE', 'OBJECTID']) assert(client.capabilities.has(name), name);
const boxes = await client.list({ statusQuery: { messages: true, uidNext: true } });
assert(boxes.some(b => b.path === 'INBOX' && b.specialUse === '\\Inbox' && b.status.messages >= 0));
assert(boxes.some(b => b.path === 'Drafts' && b.specialUse === '\\Drafts'));
await client.mailboxCreate(['Flow', 'Entwürfe']);
await client.mailboxSubscribe('Flow/Entwürfe');
assert((await client.list()).some(b => b.path === 'Flow/Entwürfe' && b.subscribed));

// Append and read.
const raw = Buffer.from('From: Zoë <zoe@elsewhere.example>\r\nTo: <a@elsewhere.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= flow\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <flow@elsewhere.example>\r\nMIME-Version: 1.0\r\n' +
  'Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n--b\r\nContent-Type: application/pdf; name=x.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--b--\r\n');
const appended = await client.append('Flow/Entwürfe', raw, ['\\Draft', 'k1'], new Date('2017-07-14T02:40:00Z'));
assert.equal(appended.uid, 1);
let lock = await client.getMailboxLock('Flow/Entwürfe');
const { uidValidity } = client.mailbox;
assert.equal(client.mailbox.exists, 1);
let m = await client.fetchOne('1', { uid: true, flags: true, envelope: true, bodyStructure: true, internalDate: true, size: true, source: true, threadId: true, headers: ['subject'], labels: true }, { uid: true });
assert.equal(m.envelope.subject, 'Grüße flow');
assert.equal(m.envelope.messageId, '<flow@elsewhere.example>');
assert.equal(m.size, raw.length);
assert.deepEqual(m.source, raw);
assert.equal(m.internalDate.toISOString(), '2017-07-14T02:40:00.000Z');
assert.deepEqual([...m.flags].sort(), ['\\Draft', 'k1']);
assert.equal(m.bodyStructure.childNodes[1].type, 'application/pdf');
assert(m.emailId && m.threadId);
const { meta, content } = await client.download('1', '2', { uid: true });
assert.equal(meta.contentType, 'application/pdf');
const octets = [];
for await (const chunk of content) octets.push(chunk);
assert.deepEqual(Buffer.concat(octets), Buffer.from([0, 1, 2, 3]));
const before = m.modseq ?? client.mailbox.highestModseq;

// Flag, search, copy, move.
assert(await client.messageFlagsAdd({ uid: 1 }, ['\\Flagged', '\\Seen'], { uid: true }));
assert(await client.messageFlagsRemove({ uid: 1 }, ['k1'], { uid: true }));
for (const [query, hits] of [[{ flagged: true, seen: true }, [1]], [{ keyword: 'k1' }, []], [{ subject: 'grüße' }, [1]], [{ body: 'GRÜSSE' }, []], [{ body: 'grüße' }, [1]],
  [{ or: [{ from: 'zoë' }, { to: 'nobody' }] }, [1]], [{ not: { header: { 'message-id': '<flow@elsewhere.example>' } } }, []], [{ sentOn: new Date('2026-11-22T12:00:00Z'), larger: 100 }, [1]], [{ modseq: 1n }, [1]], [{ emailId: m.emailId }, [1]]]) {
  assert.deepEqual(await client.search(query, { uid: true }), hits, JSON.stringify(query, (_, v) => (typeof v === 'bigint' ? String(v) : v)));
}
const copied = await client.messageCopy('1', 'Archive', { uid: true });
assert.equal(copied.uidMap.size, 1);
const moved = await client.messageMove('1', 'Trash', { uid: true });
assert.equal(moved.uidMap.size, 1);
assert.equal(client.mailbox.exists, 0);
lock.release();

// Idle wakes up.
lock = await client.getMailboxLock('INBOX');
const count = client.mailbox.exists;
const told = new Promise(resolve => client.on('exists', resolve));
const idling = client.idle();
await send('imapflow-idle');
const news = await told;
assert.equal(news.count, count + 1);
assert.equal(news.prevCount, count);
await client.noop();
await idling;
const uids = await client.search({ subject: 'imapflow-idle' }, { uid: true });
assert.equal(uids.length, 1);
const { highestModseq } = client.mailbox;
lock.release();

// The connection is cut; another one is told what happened meanwhile.
const cut = new Promise(resolve => client.on('close', resolve));
client.close();
await cut;
const other = await open();
await other.mailboxOpen('INBOX');
await other.messageFlagsAdd(uids, ['\\Answered'], { uid: true });
await other.logout();
client = await open();
await client.mailboxOpen('INBOX');
const changed = [];
for await (const c of client.fetch('1:*', { uid: true, flags: true }, { uid: true, changedSince: highestModseq })) changed.push([c.uid, c.flags.has('\\Answered')]);
assert.deepEqual(changed, [[uids[0], true]]);
assert(await client.messageDelete(uids, { uid: true }));
assert.deepEqual(await client.search({ subject: 'imapflow-idle' }, { uid: true }), []);
await client.mailboxOpen('Flow/Entwürfe');
assert.equal(client.mailbox.uidValidity, uidValidity);
assert.equal(client.mailbox.uidNext, 2);
await client.mailboxClose();
await client.mailboxRename('Flow/Entwürfe', 'Flow/Neu');
await client.mailboxDelete('Flow/Neu');
const quota = await client.getQuota('INBOX');
assert(quota === false || quota.path === 'INBOX');
await client.logout();
console.log('all done');
