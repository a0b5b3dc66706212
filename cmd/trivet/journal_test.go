package main

import (
	"slices"
	"testing"
)

// changingOperations are those of which the journal has entries.
var changingOperations = []string{
	"account.add", "account.disable", "account.limit", "account.password", "account.quota", "account.remove", "alias.add", "alias.remove", "ban.add", "ban.lift",
	"certificate.acme", "certificate.obtain", "certificate.remove", "cluster.invite", "cluster.remove", "cluster.transfer", "database.create", "database.drop",
	"database.feed", "database.grant", "database.quota", "database.restore", "dkim.activate", "dkim.remove", "dkim.rotate", "domain.add", "domain.administrator",
	"domain.remove", "domain.set", "factor.remove", "forward.set", "group.add", "group.remove", "group.set", "imap.withhold", "password.add", "password.remove",
	"queue.change", "route.remove", "route.set", "sender.set", "settings.apply", "spam.choice", "spam.digest", "spam.drop", "spam.forget", "spam.learn", "spam.policy",
	"spam.release", "spam.reputation.forget", "spam.settings", "token.add", "token.remove", "vacation.set",
}

// TestOperationsAreTold: an operation either tells or changes, and a new one has to say which.
func TestOperationsAreTold(t *testing.T) {
	operations := (&node{}).operations()
	for _, name := range tellingOperations {
		if operations[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	for name := range operations {
		if slices.Contains(tellingOperations, name) == slices.Contains(changingOperations, name) {
			t.Errorf("does %s change anything?", name)
		}
	}
}
