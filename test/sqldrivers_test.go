package test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestSQLDrivers runs a program with each driver: prepared statements, types in
// text and in binary, transactions, errors by their SQLSTATE, COPY, cancelling and
// what drivers ask of the catalogue. psql and pgx are in package pgwire.
func TestSQLDrivers(t *testing.T) {
	drivers := []struct {
		name    string
		present []string // succeeds if the driver is there
		run     []string
		env     string
	}{
		{"node-postgres", []string{"node", "-e", "require('pg')"}, []string{"node", "testdata/sqldrivers/pg.js"}, "NODE_PATH=/usr/share/nodejs:" + os.Getenv("NODE_PATH")},
		{"psycopg2", []string{"/usr/bin/python3", "-c", "import psycopg2"}, []string{"/usr/bin/python3", "testdata/sqldrivers/psycopg2_test.py"}, ""},
		{"psycopg3", []string{"/usr/bin/python3", "-c", "import psycopg"}, []string{"/usr/bin/python3", "testdata/sqldrivers/psycopg3_test.py"}, ""},
		{"JDBC", []string{"sh", "-c", "test -f /usr/share/java/postgresql.jar && java --list-modules | grep -q jdk.compiler"},
			[]string{"java", "-cp", "/usr/share/java/postgresql.jar", "testdata/sqldrivers/Jdbc.java"}, ""},
	}
	c := startCluster(t, 1, clusterOptions{more: []string{"sql"}})
	c.createDatabase("shop")
	host, port, err := net.SplitHostPort(c.nodes[0].listen["sql"])
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range drivers {
		t.Run(d.name, func(t *testing.T) {
			if out, err := driver(d.env, d.present...); err != nil {
				t.Skipf("%s is not installed: %v %.200s", d.name, err, out)
			}
			out, err := driver(d.env, append(d.run, host, port, "admin@"+domain, password, "shop")...)
			if err != nil || strings.TrimSpace(out) != "ok" {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func driver(env string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
