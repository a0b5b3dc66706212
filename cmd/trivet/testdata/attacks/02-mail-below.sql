-- What lies below the views: there is no table of mail.db on the connection, no file, no memory of others.
-- database: mail
SELECT * FROM sqlite_schema

SELECT * FROM sqlite_master, sqlite_temp_master

SELECT sql FROM pragma_table_list l, sqlite_schema s

-- refused
SELECT * FROM credential

-- refused
SELECT stored_key FROM main.credential

-- refused
SELECT * FROM mailbox_message

-- refused
SELECT * FROM token

-- refused
SELECT * FROM setting

-- refused
SELECT * FROM web_session

-- refused
SELECT * FROM journal

-- refused
SELECT chunks, hash FROM message

-- refused
SELECT * FROM sqlite_dbpage

-- refused
SELECT data FROM sqlite_dbpage('main') WHERE pgno = 1

-- refused
SELECT * FROM dbstat

-- refused
SELECT * FROM sqlite_stmt

-- refused
SELECT * FROM bytecode('SELECT * FROM message')

-- refused
SELECT * FROM tables_used('SELECT * FROM message')

-- refused
ATTACH 'DATA/state/mail.db' AS m

-- refused
ATTACH 'file:DATA/state/mail.db?mode=ro&immutable=1' AS m

-- refused
ATTACH ':memory:' AS m

-- refused
DETACH main

-- refused
VACUUM INTO 'DATA/stolen.db'

-- refused
VACUUM

-- refused
SELECT load_extension('x')

-- refused
SELECT readfile('DATA/state/mail.db')

-- refused
SELECT writefile('DATA/stolen.db', 'x')

-- refused
SELECT edit('x')

-- refused
SELECT fts3_tokenizer('simple')

-- refused
SELECT sqlite_log(1, 'x')

-- refused
CREATE TEMP TABLE t AS SELECT * FROM message

-- refused
CREATE TEMP VIEW message AS SELECT 1

-- refused
CREATE VIEW v AS SELECT * FROM credential

-- refused
CREATE TABLE t (a)

-- refused
CREATE VIRTUAL TABLE message2 USING trivet

-- refused
CREATE VIRTUAL TABLE credential USING trivet

-- refused
CREATE VIRTUAL TABLE f USING fts5(a)

-- refused
CREATE VIRTUAL TABLE f USING csv(filename='DATA/state/mail.db')

-- refused
SELECT * FROM trivet

-- refused
DROP TABLE message

-- refused
ALTER TABLE message RENAME TO other

-- refused
DELETE FROM message

-- refused
UPDATE account SET admin = 1

-- refused
INSERT INTO message (uid) VALUES (1)

-- refused
INSERT INTO sqlite_schema VALUES ('table', 'x', 'x', 1, 'CREATE TABLE x (a)')

-- refused
PRAGMA writable_schema = ON

-- refused
PRAGMA trusted_schema = ON

-- refused
PRAGMA query_only = OFF

-- refused
PRAGMA temp_store_directory = 'DATA'

-- refused
PRAGMA journal_mode = OFF

-- refused
PRAGMA key = 'x'

-- refused
PRAGMA database_list

-- refused
SELECT * FROM pragma_database_list

-- refused
SELECT * FROM pragma_temp_store_directory

SELECT * FROM pragma_function_list, pragma_module_list

SELECT * FROM pragma_table_xinfo('message'), pragma_table_xinfo('search')

SELECT * FROM pragma_integrity_check

SELECT * FROM pragma_compile_options

SELECT * FROM help
