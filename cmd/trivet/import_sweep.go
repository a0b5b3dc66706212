package main

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
)

// mark notes that messages are being appended from a UID on, or with 0 that all is done.
func (im *importing) mark(box *sourceMailbox, first uint32) error {
	return im.journal.add(journalEntry{Mailbox: box.name, Validity: box.validity, Key: appending, UID: first})
}

// sweep ends a mailbox. If an earlier run was cut short, behind cut, its last command may have been carried out after this run
// had looked at what is there, and its messages were appended once more: such a one is not in the journal, and
// is octet for octet one that is. It is expunged.
func (im *importing) sweep(box *sourceMailbox, here string, cut uint32) error {
	known := im.journal.of(box)
	if known[appending].UID == 0 {
		return nil
	}
	if cut != 0 {
		if _, err := im.dialog.do("SELECT " + quoteIMAP(here)); err != nil {
			return err
		}
		twice, err := im.twice(known, cut)
		if err != nil {
			return err
		}
		if len(twice) > 0 {
			set := strings.Join(twice, ",")
			for _, command := range []string{`UID STORE %s +FLAGS.SILENT (\Deleted)`, "UID EXPUNGE %s"} {
				if _, err := im.dialog.do(fmt.Sprintf(command, set)); err != nil {
					return err
				}
			}
		}
	}
	return im.mark(box, 0)
}

// twice finds messages of the selected mailbox, from a UID on, that are not in the journal but are like one that is.
func (im *importing) twice(known map[string]journalEntry, first uint32) (uids []string, err error) {
	sizes, err := im.dialog.sizesFrom(first)
	if err != nil {
		return nil, err
	}
	ours := map[uint32]bool{}
	for _, e := range known {
		ours[e.UID] = true
	}
	for _, same := range sizes {
		here, strangers := map[[sha256.Size]byte]bool{}, map[uint32][sha256.Size]byte{}
		for _, uid := range same {
			if !ours[uid] {
				strangers[uid] = [sha256.Size]byte{}
			}
		}
		if len(strangers) == 0 || len(strangers) == len(same) {
			continue
		}
		for _, uid := range same {
			octets, err := im.dialog.body(uid)
			if err != nil {
				return nil, err
			}
			if sum := sha256.Sum256(octets); ours[uid] {
				here[sum] = true
			} else {
				strangers[uid] = sum
			}
		}
		for uid, sum := range strangers {
			if here[sum] {
				uids = append(uids, strconv.Itoa(int(uid)))
			}
		}
	}
	return uids, nil
}
