package main

import "testing"

func TestResolverSetting(t *testing.T) {
	for address, wrong := range map[string]bool{"192.0.2.1": false, "[::1]:5353": false, "off": false, "ns.example.org": true, "192.0.2.1:99999": true} {
		s, err := loadFrom(t, "", "--resolver="+address)
		if (exitStatus(err) == exitUsage) != wrong {
			t.Errorf("%s: %v", address, err)
		}
		if _, err := s.newResolver(); err == nil && wrong {
			t.Errorf("%s makes a resolver", address)
		}
	}
}
