package web

import (
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
)

// manualPath is where the manual is.
const manualPath = "/docs"

// manual is the user's manual: files in Markdown.
type manual struct {
	files    fs.FS
	contents []manualEntry
}

type manualEntry struct {
	Path  string // of the page
	Title string
	file  string
}

// manualPage is what the page shows.
type manualPage struct {
	Contents []manualEntry
	Text     template.HTML
}

// newManual reads which pages there are: the quick start first, the reference last.
func newManual(files fs.FS) *manual {
	m := &manual{files: files}
	names, _ := fs.Glob(files, "howto/*.md") // the pattern is right
	slices.Sort(names)
	names = append(append([]string{"quickstart.md"}, names...), "reference.md")
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			continue
		}
		title, _, _ := strings.Cut(string(data), "\n")
		m.contents = append(m.contents, manualEntry{Path: pageOf(name), Title: strings.TrimPrefix(title, "# "), file: name})
	}
	return m
}

// pageOf is the path of a file's page.
func pageOf(file string) string {
	if file == "quickstart.md" {
		return manualPath
	}
	return manualPath + "/" + strings.TrimSuffix(file, ".md")
}

func (s *Shell) mountManual(files fs.FS) {
	m := newManual(files)
	show := func(w http.ResponseWriter, r *http.Request, v *Visit) error {
		i := slices.IndexFunc(m.contents, func(e manualEntry) bool { return e.Path == r.URL.Path })
		if i < 0 {
			return errNoPage
		}
		entry := m.contents[i]
		data, err := fs.ReadFile(m.files, entry.file)
		if err != nil {
			return err
		}
		text := markdown(string(data), func(target string) string { return m.link(entry.file, target) })
		return s.Render(w, r, v, View{Title: entry.Title, Page: s.pages.manual, Data: manualPage{m.contents, text}})
	}
	s.Mount("GET "+manualPath, Access{}, show)
	s.Mount("GET "+manualPath+"/", Access{}, show)
}

// link is where a link in a file leads: outside, within the page, to another page, or nowhere.
func (m *manual) link(from, target string) string {
	if strings.HasPrefix(target, "https://") || strings.HasPrefix(target, "#") {
		return target
	}
	file, fragment, _ := strings.Cut(target, "#")
	file = path.Join(path.Dir(from), file)
	if !slices.ContainsFunc(m.contents, func(e manualEntry) bool { return e.file == file }) {
		return ""
	}
	if fragment != "" {
		fragment = "#" + fragment
	}
	return pageOf(file) + fragment
}
