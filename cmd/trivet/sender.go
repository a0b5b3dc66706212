package main

import "trivet/smtp"

// verification is how mail from outside is checked for who sent it.
func (n *node) verification() *smtp.Verification {
	return &smtp.Verification{Resolver: n.resolver, Monitor: bool(n.settings.Monitor)}
}
