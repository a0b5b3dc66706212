package main

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"trivet/auth"
	"trivet/storage"
)

// shortPassword is how many characters a password should have at least (NIST SP 800-63B).
const shortPassword = 8

// passwordFlag adds --password-stdin.
func passwordFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("password-stdin", false, "read the password from standard input; without it one is made up and printed once")
}

// choosePassword reads a password or makes one up, which it returns for printing.
func (c *cli) choosePassword(fromStdin bool) (v storage.Verifier, made string, err error) {
	password, made, err := c.takePassword(fromStdin)
	if err != nil {
		return v, "", err
	}
	if v, err = auth.NewVerifier(password); err != nil {
		err = usagef("%w", err)
	}
	return v, made, err
}

// takePassword reads a password, or makes one up and returns it twice.
func (c *cli) takePassword(fromStdin bool) (password, made string, err error) {
	if !fromStdin {
		made = newPassword()
		return made, made, nil
	}
	if password, err = readPassword(c.in); err != nil {
		return "", "", err
	}
	if utf8.RuneCountInString(password) < shortPassword {
		fmt.Fprintf(c.err, "trivet: warning: the password has less than %d characters and can be guessed\n", shortPassword)
	}
	return password, "", nil
}

// readPassword reads all of in, less the end of its line.
func readPassword(in io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(in, auth.MaxPasswordLength+3))
	if err != nil {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if strings.ContainsAny(password, "\r\n") {
		return "", usagef("standard input has more than one line; a password is one line")
	}
	return password, nil
}

// newPassword makes up a password of 100 bits in groups that can be read out.
func newPassword() string {
	var random [15]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	text := strings.ToLower(base32.StdEncoding.EncodeToString(random[:]))
	return text[:5] + "-" + text[5:10] + "-" + text[10:15] + "-" + text[15:20]
}
