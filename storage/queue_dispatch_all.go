package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// kindDispatchAll is of feature level 3.
const kindDispatchAll kind = 92

// MaxDeliveries bounds the messages that [Store.DeliverAll] stores by one command. Their
// recipients elsewhere are bounded together, by [MaxOutbound].
const MaxDeliveries = 1000

type dispatchAll struct {
	Messages []dispatch `cbor:"1,keyasint"`
}

// DeliverAll delivers several messages that one transaction made, say what each group among its
// recipients gets, all or none: by one command, whose id is made of all of theirs. Where they are
// more than one command may hold, or a node of an older release is there, each is delivered by itself
// and an error may leave the first ones delivered: their own ids keep a repetition from doing it twice.
func (s *Store) DeliverAll(ctx context.Context, all []Delivery) ([]Delivered, error) {
	outbound, inline := 0, 0
	body := dispatchAll{Messages: make([]dispatch, len(all))}
	ids := make([]string, len(all))
	for i, d := range all {
		if d.Outbound != nil {
			outbound += len(d.Outbound.Recipients)
		}
		ids[i] = string(d.Transaction[:])
		if d.Content.Size() <= ChunkSize {
			inline += int(d.Content.Size())
		}
	}
	if len(all) == 1 || len(all) > MaxDeliveries || outbound > MaxOutbound || inline > maxAppendBytes || s.Level() < levelOf(kindDispatchAll, 1) {
		return s.deliverEach(ctx, all)
	}
	for i, d := range all {
		d, accounts, filings, err := s.arranged(ctx, d)
		if err == nil {
			body.Messages[i], err = s.dispatchOf(d, accounts, filings)
		}
		if err != nil {
			return nil, err
		}
		body.Messages[i].Content = s.record(d.Content)
	}
	slices.Sort(ids)
	request := sha256.Sum256([]byte(strings.Join(ids, "")))
	return s.dispatchWithParts(ctx, request[:], body, all)
}

func (s *Store) deliverEach(ctx context.Context, all []Delivery) ([]Delivered, error) {
	var done []Delivered
	for _, d := range all {
		one, err := s.Deliver(ctx, d)
		if err != nil {
			return done, err
		}
		done = append(done, one)
	}
	return done, nil
}

// dispatchWithParts sends the parts of large bodies ahead, and again if they went missing.
func (s *Store) dispatchWithParts(ctx context.Context, request []byte, b dispatchAll, all []Delivery) ([]Delivered, error) {
	var err error
	for range 2 {
		for i, d := range all {
			if b.Messages[i].Content.Parts == 0 {
				continue
			}
			known, err := s.hasMessage(ctx, b.Messages[i].Content.Hash)
			if err == nil && !known {
				err = s.upload(ctx, d.Content)
			}
			if err != nil {
				return nil, err
			}
		}
		var out []dispatched
		var repeated bool
		repeated, err = s.propose(ctx, kindDispatchAll, request, b, &out)
		var e *Error
		if errors.As(err, &e) && e.Op == opMissingParts {
			continue
		}
		done := make([]Delivered, len(out))
		for i, o := range out {
			done[i] = Delivered{Duplicate: repeated, MessageID: o.MessageID, QueueID: o.QueueID}
		}
		return done, err
	}
	return nil, err
}

// applyDispatchAll does it for each, or, when one is refused, for none: an error undoes the command.
func applyDispatchAll(t *tx, b dispatchAll) (any, error) {
	if len(b.Messages) > MaxDeliveries {
		return nil, fail(opDispatch, KindTooLarge, fmt.Sprintf("at most %d messages at a time", MaxDeliveries))
	}
	out := make([]dispatched, 0, len(b.Messages))
	for _, m := range b.Messages {
		done, err := applyDispatch(t, m)
		if err != nil {
			return nil, err
		}
		out = append(out, done.(dispatched))
	}
	return out, nil
}
