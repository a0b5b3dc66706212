package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"trivet/storage"
)

// demoDatabase belongs to the first account of a demo.
const demoDatabase = "sample"

const demoTables = `
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL) STRICT;
CREATE TABLE item (id INTEGER PRIMARY KEY, title TEXT NOT NULL, price REAL NOT NULL CHECK (price > 0)) STRICT;
CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customer, item INTEGER NOT NULL REFERENCES item, day TEXT NOT NULL) STRICT;
CREATE VIRTUAL TABLE review USING fts5(body);
INSERT INTO customer VALUES (1, 'Ann', 'Bergen'), (2, 'Bob', 'Osaka'), (3, 'Chidi', 'Lagos');
INSERT INTO item VALUES (1, 'Three-legged stool', 49.5), (2, 'Milking pail', 12), (3, 'Cast-iron trivet', 19.9);
INSERT INTO purchase (customer, item, day) VALUES (1, 3, '2026-11-02'), (2, 1, '2026-11-05'), (2, 3, '2026-11-05'), (3, 2, '2026-11-20');
INSERT INTO review VALUES ('stands level on uneven ground'), ('a pail that does not leak');
`

// makeDemoDatabase makes a database to try things with.
func (c *cli) makeDemoDatabase(ctx context.Context, owner demoAccount) error {
	patience, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	for { // until the nodes have agreed that all of them know databases
		err := c.ask(ctx, "database.create", newDatabase{Name: demoDatabase, Owner: owner.Address}, &storage.Database{})
		if err == nil {
			break
		}
		if storage.KindOf(err) != storage.KindUnavailable || !sleep(patience, demoPoll) {
			return err
		}
	}
	conn, err := c.openSQL(ctx, sqlOptions{database: demoDatabase}, "")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, demoTables).ReadAll(); err != nil {
		return sqlProblem(err)
	}
	return nil
}

// sqlCommands are things to try with the databases.
func (d demonstration) sqlCommands(dir dataDir) []string {
	try := []string{fmt.Sprintf("%s sql --data %s -d %s -c 'SELECT c.name, sum(i.price) FROM purchase p JOIN customer c ON c.id = customer JOIN item i ON i.id = item GROUP BY 1'",
		os.Args[0], dir, demoDatabase), fmt.Sprintf("%s sql --data %s --query writers", os.Args[0], dir)}
	if address, ok := d.Listen[listenSQL]; ok {
		if host, port, err := net.SplitHostPort(address); err == nil {
			try = append(try, fmt.Sprintf("PGPASSWORD='%s' psql 'host=%s port=%s user=%s dbname=%s'", d.Accounts[0].Password, host, port, d.Accounts[0].Address, demoDatabase))
		}
	}
	return try
}
