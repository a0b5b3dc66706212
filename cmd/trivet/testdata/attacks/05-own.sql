-- A database that is hers: all of SQL, and nothing beside the file.
-- database: own
-- refused
ATTACH 'DATA/state/mail.db' AS m

-- refused
ATTACH 'DATA/state/databases/PRIVATE.db' AS m

-- refused
VACUUM INTO 'DATA/stolen.db'

-- refused
VACUUM main INTO 'DATA/stolen.db'

-- refused
CREATE TRIGGER own_t AFTER INSERT ON x BEGIN SELECT load_extension('y'); END; INSERT INTO x VALUES (1)

-- refused
CREATE VIEW v AS SELECT * FROM sqlite_dbpage; SELECT * FROM v

-- refused
CREATE TRIGGER own_t AFTER INSERT ON x BEGIN SELECT data FROM sqlite_dbpage; END; INSERT INTO x VALUES (1)

-- refused
CREATE TRIGGER own_t AFTER INSERT ON x BEGIN DELETE FROM sqlite_schema; END; INSERT INTO x VALUES (1)

-- refused
CREATE VIRTUAL TABLE f USING csv(filename='/etc/passwd')

-- refused
CREATE VIRTUAL TABLE f USING fts5(a, content='sqlite_dbpage'); SELECT * FROM f

-- refused
CREATE VIRTUAL TABLE f USING dbstat

-- refused
CREATE VIRTUAL TABLE f USING trivet

-- refused
CREATE VIRTUAL TABLE message USING trivet; SELECT * FROM message

-- refused
CREATE VIRTUAL TABLE f USING fts5vocab('mail', 'message', 'row'); SELECT * FROM f

CREATE VIRTUAL TABLE words USING fts5(a); CREATE VIRTUAL TABLE vocabulary USING fts5vocab('words', 'row'); INSERT INTO words VALUES ('mine'); SELECT * FROM vocabulary

-- refused
CREATE TEMP TABLE t (a)

-- refused
CREATE TEMP TRIGGER t AFTER INSERT ON x BEGIN SELECT 1; END;

-- refused
PRAGMA writable_schema = 1

-- refused
PRAGMA temp_store_directory = '/tmp'

-- refused
PRAGMA mmap_size = 1000000000

-- refused
PRAGMA cache_size = 100000000

-- refused
PRAGMA hard_heap_limit = 1

-- refused
PRAGMA page_size = 512

-- refused
PRAGMA wal_checkpoint(TRUNCATE)

-- refused
PRAGMA locking_mode = EXCLUSIVE

-- refused
PRAGMA database_list

-- refused
SELECT writefile('DATA/stolen.db', 'x')

-- refused
SELECT * FROM private.secret

-- refused
INSERT INTO sqlite_dbpage VALUES (1, zeroblob(4096), 'main')

-- refused
UPDATE sqlite_schema SET sql = 'CREATE TABLE x (b)'

-- refused
INSERT INTO x SELECT zeroblob(30000000) FROM generate_series(1, 100)

-- refused
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO x SELECT i FROM n

SELECT * FROM sqlite_schema

SELECT * FROM pragma_table_list

SELECT * FROM pg_database

SELECT * FROM pg_roles

SELECT * FROM pg_stat_activity

SELECT * FROM pg_settings

SELECT * FROM information_schema.tables
