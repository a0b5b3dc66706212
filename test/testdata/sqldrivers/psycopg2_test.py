"""psycopg 2: arguments are host, port, user, password, database."""
import io, sys, threading
import psycopg2, psycopg2.extras, psycopg2.errorcodes

host, port, user, password, database = sys.argv[1:]
c = psycopg2.connect(host=host, port=port, user=user, password=password, dbname=database, sslmode="require", application_name="python test")
cur = c.cursor()
cur.execute("DROP TABLE IF EXISTS py2")
cur.execute("CREATE TABLE py2 (id INTEGER PRIMARY KEY, name TEXT, price REAL, raw BLOB)")
cur.execute("CREATE TRIGGER py2_t AFTER INSERT ON py2 WHEN new.name = 'fix' BEGIN UPDATE py2 SET name = 'fixed' WHERE id = new.id; END")
cur.execute("INSERT INTO py2 (name, price, raw) VALUES (%s, %s, %s) RETURNING id", ("O'Brien ☃", 1.5, None))
assert cur.fetchone()[0] == 1
cur.executemany("INSERT INTO py2 (name, price) VALUES (%s, %s)", [("fix", 2), ("x", None)])
psycopg2.extras.execute_values(cur, "INSERT INTO py2 (name, price) VALUES %s", [("v%d" % i, i) for i in range(50)])
c.commit()
cur.execute("SELECT name, price FROM py2 WHERE id <= %s ORDER BY id", (3,))
assert cur.fetchall() == [("O'Brien ☃", 1.5), ("fixed", 2.0), ("x", None)], cur.fetchall()
assert [d[0] for d in cur.description] == ["name", "price"]
try:
    cur.execute("INSERT INTO py2 (id) VALUES (1)")
    assert False
except psycopg2.IntegrityError as e:
    assert e.pgcode == psycopg2.errorcodes.UNIQUE_VIOLATION, e.pgcode
try:
    cur.execute("SELECT 1")
    assert False
except psycopg2.InternalError as e:
    assert e.pgcode == "25P02", e.pgcode
c.rollback()
cur.copy_expert("COPY py2 (name, price) FROM STDIN WITH (FORMAT csv)", io.StringIO("c1,1\nc2,\n"))
out = io.StringIO()
cur.copy_expert("COPY (SELECT name, price FROM py2 WHERE name LIKE 'c%' ORDER BY name) TO STDOUT WITH (FORMAT csv, HEADER)", out)
assert out.getvalue() == "name,price\nc1,1.0\nc2,\n" or out.getvalue() == "name,price\nc1,1\nc2,\n", out.getvalue()
c.rollback()
cur.execute("SELECT count(*) FROM py2")
assert cur.fetchone()[0] == 53
c.rollback()
timer = threading.Timer(0.5, c.cancel)
timer.start()
try:
    cur.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
    assert False
except psycopg2.errors.QueryCanceled as e:
    pass
c.rollback()
c.close()
print("ok")
