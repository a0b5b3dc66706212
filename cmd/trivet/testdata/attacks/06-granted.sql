-- A database of bob's that alice may read, and nothing more.
-- database: shared
SELECT * FROM t

-- refused
INSERT INTO t VALUES (2)

-- refused
UPDATE t SET a = 2 RETURNING a

-- refused
DELETE FROM t

-- refused
WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x

-- refused
REPLACE INTO t VALUES (1)

-- refused
CREATE TABLE y (a)

-- refused
CREATE INDEX i ON t (a)

-- refused
DROP TABLE t

-- refused
ALTER TABLE t ADD COLUMN b

-- refused
ANALYZE

-- refused
REINDEX t

-- refused
VACUUM

-- refused
VACUUM INTO 'DATA/stolen.db'

-- refused
PRAGMA user_version = 7

-- refused
PRAGMA application_id = 7

-- refused
PRAGMA optimize

-- refused
PRAGMA incremental_vacuum

-- refused
BEGIN; DELETE FROM t; COMMIT

-- refused
SAVEPOINT s; DELETE FROM t

-- refused
EXPLAIN DELETE FROM t; DELETE FROM t
