-- Rows of others, by every way of asking for them. Each statement stands alone, ends with a line that is empty, and may
-- succeed: what counts is that no answer has anything of somebody else's.
-- database: mail
SELECT * FROM message

SELECT * FROM message WHERE account = 'bob@example.org'

SELECT * FROM message WHERE account LIKE '%bob%' OR 1 = 1

SELECT * FROM message WHERE mailbox_id IN (SELECT value FROM generate_series(0, 20000000) WHERE value % 65536 < 40)

SELECT * FROM message WHERE mailbox_id BETWEEN -9223372036854775808 AND 9223372036854775807

SELECT * FROM message WHERE mailbox_id = 9223372036854775807 OR uid = -1 OR uid = 4294967296

WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT m.* FROM n JOIN message m ON m.mailbox_id = n.i * 65536

WITH message AS (SELECT * FROM main.message) SELECT * FROM message

WITH account AS (SELECT 'bob@example.org' AS address) SELECT m.* FROM message m, account a WHERE m.account = a.address

SELECT * FROM main.message m LEFT JOIN body b ON b.id <> m.id

SELECT (SELECT group_concat(text) FROM body) FROM mailbox

SELECT * FROM search('%')

SELECT * FROM search('CANARY')

SELECT * FROM search('"CANARY"') WHERE account = 'bob@example.org'

SELECT * FROM search WHERE words = 'CANARY'

SELECT * FROM search WHERE words >= 'A'

SELECT words FROM search('canary') UNION ALL SELECT text FROM body

SELECT * FROM recipient UNION SELECT * FROM recipient WHERE account <> 'alice@example.org'

SELECT * FROM attachment WHERE mailbox NOT IN (SELECT name FROM mailbox)

SELECT * FROM header ORDER BY value DESC

SELECT * FROM thread

SELECT * FROM account

SELECT * FROM mailbox

SELECT * FROM delivery

SELECT * FROM delivery WHERE id IN ('forged', 'blind', 'trail1')

SELECT * FROM event

SELECT * FROM event WHERE id = 'trail1'

SELECT * FROM queue

SELECT * FROM login

SELECT * FROM refusal WHERE recipient LIKE '%'

SELECT * FROM audit

SELECT * FROM spam_reason

SELECT rowid, * FROM message WHERE rowid = 1

SELECT quote(m.text), hex(m.text) FROM body m

SELECT json_group_array(json_object('s', subject, 'a', account)) FROM message

SELECT * FROM message ORDER BY (SELECT text FROM body b WHERE b.uid = message.uid)

SELECT sum(length(text)) OVER () AS total, * FROM body

SELECT * FROM message m WHERE EXISTS (SELECT 1 FROM message o WHERE o.account <> m.account)

SELECT * FROM message INDEXED BY nothing

EXPLAIN SELECT * FROM message

EXPLAIN QUERY PLAN SELECT * FROM message WHERE account = 'bob@example.org'
