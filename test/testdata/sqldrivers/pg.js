// node-postgres: arguments are host, port, user, password, database.
const { Client, Pool } = require('pg');
const assert = require('assert');

async function main() {
  const [host, port, user, password, database] = process.argv.slice(2);
  const settings = { host, port: Number(port), user, password, database, ssl: { rejectUnauthorized: false }, application_name: 'node test' };
  const c = new Client(settings);
  await c.connect();
  await c.query('DROP TABLE IF EXISTS node');
  await c.query('CREATE TABLE node (id INTEGER PRIMARY KEY, name TEXT, price REAL, raw BLOB, ok BOOLEAN, at TIMESTAMP, doc JSON)');
  await c.query("CREATE TRIGGER node_t AFTER INSERT ON node WHEN new.name = 'fix' BEGIN UPDATE node SET name = 'fixed' WHERE id = new.id; END");
  const made = await c.query('INSERT INTO node (name, price, raw, ok) VALUES ($1, $2, $3, $4) RETURNING id', ["O'Brien ☃", 1.5, Buffer.from([0, 255]), true]);
  assert.deepStrictEqual(made.rows, [{ id: '1' }].map((r) => ({ id: typeof made.rows[0].id === 'number' ? 1 : '1' })));
  assert.strictEqual(made.rowCount, 1);
  await c.query('INSERT INTO node (name) VALUES ($1)', ['fix']);
  const got = await c.query({ name: 'by-id', text: 'SELECT name, price, raw, ok FROM node WHERE id = $1', values: [1] });
  assert.deepStrictEqual(got.rows, [{ name: "O'Brien ☃", price: 1.5, raw: Buffer.from([0, 255]), ok: true }]);
  const again = await c.query({ name: 'by-id', text: 'SELECT name, price, raw, ok FROM node WHERE id = $1', values: [2] });
  assert.deepStrictEqual(again.rows, [{ name: 'fixed', price: null, raw: null, ok: null }]);
  await assert.rejects(c.query('INSERT INTO node (id) VALUES (1)'), (e) => e.code === '23505');
  await assert.rejects(c.query('SELEC'), (e) => e.code === '42601');
  await c.query('BEGIN');
  await c.query('DELETE FROM node');
  await assert.rejects(c.query('SELECT * FROM nowhere'), (e) => e.code === '42P01');
  await assert.rejects(c.query('SELECT 1'), (e) => e.code === '25P02');
  await c.query('ROLLBACK');
  assert.strictEqual(String((await c.query('SELECT count(*) AS n FROM node')).rows[0].n), '2');
  const pool = new Pool({ ...settings, max: 4 });
  await Promise.all(Array.from({ length: 40 }, (_, i) => pool.query('INSERT INTO node (name) VALUES ($1)', ['n' + i])));
  assert.strictEqual((await pool.query('SELECT name FROM node')).rows.length, 42);
  await pool.end();
  await c.end();
  console.log('ok');
}
main().catch((e) => { console.error(e); process.exit(1); });
