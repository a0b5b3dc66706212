package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"trivet/storage"
	"trivet/web/admin"
)

// What the commands send.
type (
	nothing struct{}
	named   struct {
		Name string `json:"name"` // a domain or an address
	}
	passwordChange struct {
		Address  string           `json:"address"`
		Verifier storage.Verifier `json:"verifier"` // the password itself stays with whoever typed it
		CRAM     []byte           `json:"cram,omitempty"`
	}
	disableChange struct {
		Address  string `json:"address"`
		Disabled bool   `json:"disabled"`
	}
	quotaChange struct {
		Address  string `json:"address"`
		Bytes    *int64 `json:"bytes"`    // nil: as it is
		Messages *int64 `json:"messages"` // nil: as it is
	}
	aliasChange struct {
		Address string   `json:"address"`
		Targets []string `json:"targets"`
	}
)

// operations are what the control socket offers.
func (n *node) operations() map[string]operation {
	operations := map[string]operation{
		"status":           operationOf(n.status),
		"cluster.invite":   operationOf(n.invite),
		"cluster.remove":   operationOf(n.removeNode),
		"cluster.transfer": operationOf(n.transfer),
		"queue.list":       operationOf(n.listQueue),
		"queue.show":       operationOf(n.showQueue),
		"queue.change":     operationOf(n.changeQueueHere),
		"trace":            operationOf(func(ctx context.Context, in named) ([]storage.Traced, error) { return n.store.Trace(ctx, in.Name) }),
		"route.set":        operationOf(n.setRoute),
		"route.list":       operationOf(func(ctx context.Context, _ nothing) ([]storage.QueueRoute, error) { return n.store.Routes(ctx) }),
		"route.remove":     operationOf(n.removeRoute),
		"verify":           operationOf(n.verify),

		"certificate.acme":    operationOf(n.changeACME),
		"certificate.list":    operationOf(n.listCertificates),
		"certificate.obtain":  operationOf(n.obtainCertificates),
		"certificate.remove":  operationOf(n.forgetCertificate),
		"certificate.show":    operationOf(n.shownCertificate),
		"certificate.waiting": operationOf(func(context.Context, nothing) ([]challengeRecord, error) { return n.acme.waiting(), nil }),

		"domain.add":           operationOf(n.addDomain),
		"domain.list":          operationOf(func(ctx context.Context, _ nothing) ([]storage.Domain, error) { return n.store.Domains(ctx) }),
		"domain.set":           operationOf(n.setDomain),
		"domain.administrator": operationOf(n.setAdministrator),
		"activity.list": operationOf(func(context.Context, nothing) ([]admin.Sample, error) {
			return n.activity.list(n.metrics.counters(n.now())), nil
		}),
		"domain.remove":    operationOf(removing(n.store.RemoveDomain)),
		"domain.dns":       operationOf(n.domainRecords),
		"domain.check":     operationOf(n.domainCheck),
		"doctor":           operationOf(n.examine),
		"account.add":      operationOf(n.store.CreateAccount),
		"account.list":     operationOf(func(ctx context.Context, _ nothing) ([]storage.Account, error) { return n.store.Accounts(ctx) }),
		"account.remove":   operationOf(removing(n.store.RemoveAccount)),
		"account.password": operationOf(n.setPassword),
		"account.limit":    operationOf(n.limitAccount),
		"account.salt":     operationOf(n.saltOf),
		"password.add":     operationOf(n.addAppPassword),
		"password.list":    operationOf(n.listAppPasswords),
		"password.remove":  operationOf(n.removeAppPassword),
		"account.disable":  operationOf(n.setDisabled),
		"account.quota":    operationOf(n.setQuota),
		"alias.add": operationOf(func(ctx context.Context, in aliasChange) (storage.Alias, error) {
			return n.store.CreateAlias(ctx, in.Address, in.Targets)
		}),
		"alias.list":   operationOf(func(ctx context.Context, _ nothing) ([]storage.Alias, error) { return n.store.Aliases(ctx) }),
		"alias.remove": operationOf(removing(n.store.RemoveAlias)),
	}
	for _, more := range []map[string]operation{n.imapOperations(), n.dkimOperations(), n.groupOperations(), n.forwardOperations(), n.vacationOperations(), n.banOperations(), n.sqlOperations()} {
		maps.Copy(operations, more)
	}
	maps.Copy(operations, n.senderOperations())
	maps.Copy(operations, n.spamSenderOperations())
	maps.Copy(operations, n.factorOperations())
	maps.Copy(operations, n.spamOperations())
	maps.Copy(operations, n.settingsOperations())
	return operations
}

func removing(remove func(context.Context, string) error) func(context.Context, named) (removed, error) {
	return func(ctx context.Context, in named) (removed, error) {
		return removed{Removed: in.Name}, remove(ctx, in.Name)
	}
}

// operators are the local parts that every domain must have (RFC 2142 section 5
// and RFC 5321 section 4.5.1).
var operators = [...]string{"postmaster", "abuse"}

// addDomain hosts a domain, and gives its operators' addresses to the first
// administrator.
func (n *node) addDomain(ctx context.Context, in named) (storage.Domain, error) {
	domain, err := n.store.CreateDomain(ctx, in.Name)
	if err != nil {
		return domain, err
	}
	if err := n.ensureDKIMKey(ctx, domain.Name); err != nil {
		return domain, err
	}
	accounts, err := n.store.Accounts(ctx)
	if err != nil {
		return domain, err
	}
	first := slices.IndexFunc(accounts, func(a storage.Account) bool { return a.Admin && !a.Disabled })
	if first < 0 {
		return domain, nil
	}
	return domain, n.addOperators(ctx, domain.Name, accounts[first].Address)
}

// addOperators makes the aliases of the operators that are not there yet.
func (n *node) addOperators(ctx context.Context, domain, target string) error {
	for _, local := range operators {
		address := local + "@" + domain
		if address == target {
			continue
		}
		_, err := n.store.CreateAlias(ctx, address, []string{target})
		if err != nil && storage.KindOf(err) != storage.KindExists {
			return &storage.Error{Op: domain + " is hosted, but " + address + " is not made", Kind: storage.KindOf(err),
				Hint: fmt.Sprintf("make it with 'trivet alias add %s %s'", address, target), Err: err}
		}
	}
	return nil
}

func (n *node) setDisabled(ctx context.Context, in disableChange) (storage.Account, error) {
	if err := n.store.SetDisabled(ctx, in.Address, in.Disabled); err != nil {
		return storage.Account{}, err
	}
	return n.store.AccountByAddress(ctx, in.Address)
}

// setQuota changes what is given, and says how it stands when nothing is.
func (n *node) setQuota(ctx context.Context, in quotaChange) (storage.Account, error) {
	if in.Bytes != nil || in.Messages != nil {
		if err := n.store.ChangeQuota(ctx, in.Address, in.Bytes, in.Messages); err != nil {
			return storage.Account{}, err
		}
	}
	return n.store.AccountByAddress(ctx, in.Address)
}

// verified is what the running node finds out.
type verified struct {
	storage.Verification
	Nodes []comparison `json:"nodes"` // none on a node that is alone
}

// verificationRequest is what is asked of it.
type verificationRequest struct {
	Compare bool `json:"compare"` // with the other nodes, which is a change of the state
}

func (n *node) verify(ctx context.Context, in verificationRequest) (verified, error) {
	n.writeJournal(ctx) // so that nothing comes behind what is looked at, on a node that does nothing else
	found, err := n.store.Verify(ctx, nil)
	if err != nil || !in.Compare {
		return verified{Verification: found}, err
	}
	index, nodes, err := n.compare(ctx)
	n.doubt(ctx, index, nodes)
	return verified{found, nodes}, err
}
