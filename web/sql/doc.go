// Package sql is SQL over HTTP: POST /api/v1/sql, and rqlite's /db/execute and
// /db/query, for programs that have no PostgreSQL driver.
//
// Its mental model is two types. A [Server] finds out who asks, by a token or a
// password, and opens a session for one request. A [request] is statements with
// their parameters and how they are to be run.
package sql
