package web

import (
	"fmt"
	"strings"
	"time"
)

// Octets is a size for people.
func (s sight) Octets(n int64) string { return octets(n) }

func octets(n int64) string {
	units := [...]string{"B", "kB", "MB", "GB", "TB"}
	value, unit := float64(n), 0
	for value >= 999.5 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	if unit == 0 || value >= 99.5 {
		return fmt.Sprintf("%.0f %s", value, units[unit])
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

// Day is a time for people, in the zone of whoever visits, which it says.
func (s sight) Day(t time.Time) string { return t.In(s.Zone).Format("2006-01-02 15:04 MST") }

// When is a time for a list, as short as it can be: the time of today, the day
// of this year, the date.
func (s sight) When(t time.Time) string { return s.Visit.When(t, s.shell.now()) }

// When is a time for a list at another: the time of the same day, the day of the same
// year, the date.
func (v *Visit) When(t, now time.Time) string {
	t, now = t.In(v.Zone), now.In(v.Zone)
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format("15:04")
	}
	months := strings.Fields(translate(v.Language, "date.months"))
	key, args := "date.day", []any{t.Day(), months[t.Month()-1]}
	if t.Year() != now.Year() {
		key, args = "date.date", append(args, t.Year())
	}
	return translate(v.Language, key, args...)
}

// Moment is a time in full: the weekday, the date, the time.
func (s sight) Moment(t time.Time) string {
	t = t.In(s.Zone)
	days, months := strings.Fields(s.T("date.weekdays")), strings.Fields(s.T("date.months"))
	return s.T("date.moment", days[t.Weekday()], t.Day(), months[t.Month()-1], t.Year(), t.Format("15:04"))
}

// Browser is what a client calls itself, for people: User-Agent as far as that tells.
func (s sight) Browser(agent string) string { return browser(agent) }

// browserMarks are what gives a browser away; those that name others too come first.
var browserMarks = [...]struct{ mark, name string }{
	{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"},
}

var systemMarks = [...]struct{ mark, name string }{
	{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"Mac OS X", "Mac"}, {"Linux", "Linux"},
}

func browser(agent string) string {
	name, system := "", ""
	for _, b := range browserMarks {
		if strings.Contains(agent, b.mark) {
			name = b.name
			break
		}
	}
	for _, m := range systemMarks {
		if strings.Contains(agent, m.mark) {
			system = m.name
			break
		}
	}
	switch {
	case name == "":
		return agent
	case system == "":
		return name
	}
	return name + ", " + system
}
