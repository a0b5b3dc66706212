package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"time"

	"trivet/storage"
)

// What nodes ask of each other beside Raft, on the same port.
const (
	pathJoin = "/join" // the one thing that needs no certificate
)

// Limits of these questions.
const (
	maxClusterMessage = 64 << 10 // octets of a question or an answer
	clusterTimeout    = 20 * time.Second
)

// joinRequest is what a machine asks that holds a token.
type joinRequest struct {
	Secret  []byte `json:"secret"`
	Node    string `json:"node"`    // the name it wants
	Request []byte `json:"request"` // PKCS #10 with its public key
	Level   int    `json:"level"`   // feature level of its release
}

// joinAnswer makes it a node.
type joinAnswer struct {
	Certificate []byte `json:"certificate"` // DER
	Authority   []byte `json:"authority"`   // DER
	Replica     bool   `json:"replica"`
	From        string `json:"from"` // IP address the question came from
}

// nodeName is what a node may call itself: fit for a certificate and a file name.
var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func joinDenied(cause string) error {
	return &storage.Error{Op: "join", Kind: storage.KindDenied, Err: errors.New(cause), Hint: "make a new token with 'trivet cluster invite'"}
}

// admit gives a certificate to who holds an invitation. Nothing is written for
// whoever made up a secret.
func (n *node) admit(r *http.Request, in joinRequest) (joinAnswer, error) {
	ctx := r.Context()
	a, err := n.authority(ctx)
	if err != nil {
		return joinAnswer{}, err
	}
	if !a.made(in.Secret) {
		return joinAnswer{}, joinDenied("the token is not of this cluster")
	}
	if in.Level < n.store.Level() {
		return joinAnswer{}, &storage.Error{Op: "join", Kind: storage.KindInvalid, Hint: "install the release that the other nodes run, " + release,
			Err: fmt.Errorf("this release has feature level %d, the cluster has %d", in.Level, n.store.Level())}
	}
	request, err := x509.ParseCertificateRequest(in.Request)
	if err == nil {
		err = request.CheckSignature()
	}
	key, isECDSA := (*ecdsa.PublicKey)(nil), false
	if err == nil {
		key, isECDSA = request.PublicKey.(*ecdsa.PublicKey)
	}
	if !isECDSA || !nodeName.MatchString(in.Node) {
		return joinAnswer{}, &storage.Error{Op: "join", Kind: storage.KindInvalid, Err: err, Hint: "the name or the key of the node is of no use"}
	}
	replica, err := n.register(ctx, in, sha256.Sum256(request.RawSubjectPublicKeyInfo))
	if err != nil {
		return joinAnswer{}, err
	}
	certificate, err := a.issue(in.Node, key, n.now())
	if err != nil {
		return joinAnswer{}, err
	}
	from, _, _ := net.SplitHostPort(r.RemoteAddr) // empty: it has to find out by itself
	n.log.Info("a node joined", "node", in.Node, "from", from)
	return joinAnswer{Certificate: certificate, Authority: a.certificate.Raw, Replica: replica, From: from}, nil
}

// register uses up the invitation for a new name. The same key may ask again:
// its answer may have been lost.
func (n *node) register(ctx context.Context, in joinRequest, key [sha256.Size]byte) (replica bool, err error) {
	record, err := n.nodeRecord(ctx, in.Node)
	switch {
	case err == nil && !bytes.Equal(record.Key, key[:]):
		return false, &storage.Error{Op: "join", Kind: storage.KindExists, Err: fmt.Errorf("the name %s was used already", in.Node), Hint: "choose another with --node"}
	case err != nil && storage.KindOf(err) != storage.KindNotFound:
		return false, err
	}
	replica, err = n.store.UseInvitation(ctx, sha256.Sum256(in.Secret), in.Node+" "+hex.EncodeToString(key[:]))
	if err != nil {
		return false, err
	}
	return replica, n.setNodeRecord(ctx, in.Node, nodeRecord{Key: key[:], Replica: replica})
}

// clusterHandler serves one question between nodes, with JSON as on the control socket.
func clusterHandler[In, Out any](do func(*http.Request, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in In
		var result any
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxClusterMessage))
		if err == nil {
			err = json.Unmarshal(body, &in)
		}
		if err != nil || r.Method != http.MethodPost {
			err = &storage.Error{Op: "read the request", Kind: storage.KindInvalid, Err: err}
		} else {
			result, err = do(r, in)
		}
		answerControl(w, result, err)
	})
}

// clusterAsk asks one node.
func clusterAsk(ctx context.Context, config *tls.Config, address, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return &storage.Error{Op: "ask " + address, Kind: storage.KindUnavailable, Err: err}
	}
	defer response.Body.Close()
	var answer controlAnswer
	if err := json.NewDecoder(io.LimitReader(response.Body, maxClusterMessage)).Decode(&answer); err != nil {
		return &storage.Error{Op: "ask " + address, Kind: storage.KindUnavailable, Err: fmt.Errorf("%s: %w", response.Status, err)}
	}
	if answer.Error != nil {
		return answer.Error.error()
	}
	return json.Unmarshal(answer.Result, out)
}

// joinTLS trusts the one authority that a token names, which the node sends in its chain.
func joinTLS(authority [sha256.Size]byte) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         clusterServerName,
		InsecureSkipVerify: true, // VerifyConnection does it, against the authority of the token
		VerifyConnection: func(state tls.ConnectionState) error {
			for _, c := range state.PeerCertificates {
				if sha256.Sum256(c.Raw) == authority {
					roots := x509.NewCertPool()
					roots.AddCert(c)
					_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: clusterServerName})
					return err
				}
			}
			return errOtherCluster
		},
	}
}

var errOtherCluster = errors.New("whoever answers is not of the cluster that the token is for: the hash of its certificate authority differs")

// askToJoin exchanges a token for credentials at the first node that answers.
func askToJoin(ctx context.Context, t token, name string) (*credentials, joinAnswer, error) {
	key, err := newKey()
	if err != nil {
		return nil, joinAnswer{}, err
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
	request, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, joinAnswer{}, fmt.Errorf("make a certificate request: %w", err)
	}
	var failures []error
	for _, address := range t.addresses {
		var answer joinAnswer
		err := clusterAsk(ctx, joinTLS(t.authority), address, pathJoin, joinRequest{Secret: t.secret[:], Node: name, Request: request, Level: storage.Level}, &answer)
		switch kind := storage.KindOf(err); {
		case err == nil:
			c, err := newCredentials(answer.Authority, answer.Certificate, key)
			if err == nil && sha256.Sum256(answer.Authority) != t.authority {
				err = errOtherCluster
			}
			return c, answer, err
		case kind == storage.KindDenied && time.Now().After(t.expires):
			return nil, answer, fmt.Errorf("the token expired at %s: %w", t.expires.Format(time.RFC3339), err)
		case kind != storage.KindUnavailable && kind != storage.KindNoQuorum && kind != storage.KindUnknown:
			return nil, answer, err
		}
		failures = append(failures, err)
	}
	return nil, joinAnswer{}, fmt.Errorf("no node of the cluster takes this one in: %w", errors.Join(failures...))
}
