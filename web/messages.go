package web

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed messages
var messageFiles embed.FS

// languages are those that there is a catalogue of; the first is what is shown to whoever reads none of them.
var languages = [...]string{"en", "de"}

// catalogues reads the catalogues, once. A language has one file for the shell and one for each room: messages/LANGUAGE.json,
// messages/ROOM.LANGUAGE.json.
var catalogues = sync.OnceValue(func() map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, language := range languages {
		all[language] = map[string]string{}
	}
	err := fs.WalkDir(messageFiles, "messages", func(name string, file fs.DirEntry, err error) error {
		if err != nil || file.IsDir() {
			return err
		}
		data, err := messageFiles.ReadFile(name)
		if err != nil {
			return err
		}
		parts := strings.Split(path.Base(name), ".")
		texts := all[parts[len(parts)-2]]
		return json.Unmarshal(data, &texts) // adds to what is there
	})
	if err != nil {
		all[languages[0]]["error"] = err.Error() // TestCatalogues finds it: the files are part of the program
	}
	return all
})

// translate is a text of the catalogue; a key that is in none is the text itself.
func translate(language, key string, args ...any) string {
	text, ok := catalogues()[language][key]
	if !ok {
		text = key
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// languageOf picks the language of a visitor by Accept-Language (RFC 9110 section 12.5.4).
func languageOf(field string) string {
	best, bestWeight := languages[0], 0.0
	for item := range strings.SplitSeq(field, ",") {
		tag, parameter, _ := strings.Cut(strings.TrimSpace(item), ";")
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
			weight, _ = strconv.ParseFloat(q, 64) // what is no number counts as nothing
		}
		primary, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		for _, language := range languages {
			if primary == language && weight > bestWeight {
				best, bestWeight = language, weight
			}
		}
	}
	return best
}
