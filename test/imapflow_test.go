package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// imapflow is the version of Node's client that the round was written for.
const imapflow = "imapflow@2.10.2"

// testImapflow plays testdata/imapflow_round.mjs, which asserts by itself. It needs node, and npm to get
// the client once from its registry; without them it is skipped, in CI too.
func testImapflow(t *testing.T, d *demo) {
	modules := npmPackage(t, imapflow)
	c := client{t, t.TempDir()}
	script, err := filepath.Abs(filepath.Join("testdata", "imapflow_round.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	bob := d.Accounts[1]
	out := c.run("node", script, modules, port(d.Listen["imap"]), port(d.Listen["smtp"]), c.write("login", bob.Address+"\n"+bob.Password))
	if !bytes.HasSuffix(bytes.TrimSpace(out), []byte("all done")) {
		t.Errorf("the round ended early:\n%s", out)
	}
}

// npmPackage is a folder with node_modules in it that has a package, kept in the user's cache. What a package
// would run when it is installed is not run.
func npmPackage(t *testing.T, name string) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: %s cannot be tried", program, name)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "trivet-test", name)
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err == nil {
		return dir
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	c := client{t, fresh}
	if out, err := c.try("npm", "install", "--prefix", fresh, "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact", name); err != nil {
		t.Skipf("npm cannot get %s, so it is not tried: %v\n%s", name, err, out)
	}
	if err := os.Rename(fresh, dir); err != nil && !isDir(dir) {
		t.Fatal(fmt.Errorf("keep %s: %w", name, err))
	}
	return dir
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
