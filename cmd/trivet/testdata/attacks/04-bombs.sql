-- What would never end, or take all memory, ends with an error; the node goes on.
-- database: mail
-- refused
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n, message

-- refused
SELECT length(zeroblob(1000000000))

-- refused
SELECT hex(zeroblob(33000000))

-- refused
SELECT printf('%.*c', 1000000000, 'x')

-- refused
SELECT replace(hex(zeroblob(1000000)), '0', hex(zeroblob(1000000)))

-- refused
SELECT randomblob(2000000000)

-- refused
SELECT group_concat(hex(zeroblob(1000000))) FROM generate_series(1, 100000)

-- refused
SELECT hex(zeroblob(1000000)) FROM generate_series(1, 100000)

-- refused
SELECT count(*) FROM body a, body b, body c, body d, generate_series(1, 1000000000)

-- refused
SELECT '((((((((((' LIKE replace(hex(zeroblob(2000)), '0', '%_') FROM generate_series(1, 100)

-- refused
WITH RECURSIVE t(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM t) SELECT length(s) FROM t

-- refused
SELECT json_group_array(value) FROM generate_series(1, 1000000000)
