package imap

import (
	"encoding/json"
	"strings"

	"trivet/storage"
)

// WithheldSetting is the name of the setting that says which capabilities are not offered to whom, as the JSON of [Withheld].
const WithheldSetting = "imap.withheld"

// Withheld are capabilities that are not on offer for some: clients exist that misbehave with what they find.
type Withheld struct {
	Accounts map[string][]string `json:"accounts,omitempty"` // by address
	Clients  map[string][]string `json:"clients,omitempty"`  // by a part of what the client calls itself in ID, whatever its case
}

// withhold works out what is not on offer in this session. A setting that cannot be read withholds nothing.
func (s *session) withhold() {
	if s.state == notAuthenticated {
		return
	}
	ctx, cancel := s.storage()
	defer cancel()
	value, err := s.server.cfg.Store.Setting(ctx, WithheldSetting)
	var w Withheld
	if err == nil {
		err = json.Unmarshal(value, &w)
	}
	if err != nil {
		if storage.KindOf(err) != storage.KindNotFound {
			s.log.Warn("imap read what is withheld", "error", err)
		}
		return
	}
	s.withheld = map[string]bool{}
	s.addWithheld(w.Accounts[s.who.Address])
	for name, capabilities := range w.Clients {
		if s.client != "" && strings.Contains(strings.ToLower(s.client), strings.ToLower(name)) {
			s.addWithheld(capabilities)
		}
	}
}

func (s *session) addWithheld(capabilities []string) {
	for _, c := range capabilities {
		s.withheld[strings.ToUpper(c)] = true
	}
}
