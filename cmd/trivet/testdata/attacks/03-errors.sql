-- Texts of errors tell what the statement said, not what others have.
-- database: mail
-- refused
SELECT json_extract(text, '$') FROM body WHERE json(text)

SELECT CAST(text AS INTEGER) / 0 FROM body

-- refused
SELECT abs(-9223372036854775808) FROM message

-- refused
SELECT json((SELECT group_concat(text) FROM body))

-- refused
SELECT nothing FROM message

-- refused
SELECT * FROM "bob@example.org"

-- refused
SELECT * FROM search(1, 2, 3)

-- refused
SELECT CASE WHEN (SELECT count(*) FROM message WHERE account = 'bob@example.org') > 0 THEN abs(-9223372036854775808) ELSE json('{') END

-- refused
SELECT raise(ABORT, 'x') FROM message

SELECT CASE WHEN (SELECT count(*) FROM message WHERE account = 'bob@example.org') > 0 THEN hex(randomblob(1000000)) END
