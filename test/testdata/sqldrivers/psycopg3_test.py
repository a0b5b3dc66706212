"""psycopg 3: arguments are host, port, user, password, database."""
import sys
import psycopg

host, port, user, password, database = sys.argv[1:]
with psycopg.connect(host=host, port=port, user=user, password=password, dbname=database, sslmode="require") as c:
    c.execute("DROP TABLE IF EXISTS py3")
    c.execute("CREATE TABLE py3 (id INTEGER PRIMARY KEY, name TEXT, price REAL, raw BLOB, ok BOOLEAN)")
    c.execute("INSERT INTO py3 (name, price, raw, ok) VALUES (%s, %s, %s, %s)", ("O'Brien ☃", 1.5, b"\x00\xff", True))
    with c.cursor() as cur:
        cur.executemany("INSERT INTO py3 (name, price) VALUES (%s, %s)", [("m%d" % i, i / 2) for i in range(100)])
    c.commit()
    for binary in (False, True):
        with c.cursor(binary=binary) as cur:
            for _ in range(8):  # from the fifth on it is prepared
                row = cur.execute("SELECT id, name, price, raw, ok FROM py3 WHERE id = %s", (1,)).fetchone()
                assert row == (1, "O'Brien ☃", 1.5, b"\x00\xff", True), row
    try:
        with c.transaction():
            c.execute("DELETE FROM py3")
            c.execute("INSERT INTO py3 (id) VALUES (1), (1)")
        assert False
    except psycopg.errors.UniqueViolation:
        pass
    with c.cursor().copy("COPY py3 (name, price) FROM STDIN") as copy:
        for i in range(10):
            copy.write_row(("c%d" % i, None if i % 2 else i))
    with c.cursor().copy("COPY (SELECT name FROM py3 WHERE name LIKE 'c%' ORDER BY name) TO STDOUT") as copy:
        assert [r[0] for r in copy.rows()] == ["c%d" % i for i in range(10)]
    with c.pipeline():
        for i in range(20):
            c.execute("INSERT INTO py3 (name) VALUES (%s)", ("p%d" % i,))
    assert c.execute("SELECT count(*) FROM py3").fetchone()[0] == 131
print("ok")
