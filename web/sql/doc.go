// Package sql is SQL over HTTP: POST /api/v1/sql, and rqlite's /db/execute and
// /db/query, for programs that have no PostgreSQL driver; and the console below
// /sql, for people.
//
// Its mental model is four types. A [Server] finds out who asks, by a token or a
// password, and opens a session for one request. A [request] is statements with
// their parameters and how they are to be run. A [Console] shows pages to whoever
// is logged in. A [query] is what the URL of such a page asks: each link on
// it is the same query with one thing changed.
package sql
