package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
)

// assetPath is where files of the pages are: style sheets, scripts, pictures.
const assetPath = "/assets/"

// assets are served from memory under names that have their hash: whoever has
// one need never ask again.
type assets struct {
	mu    sync.RWMutex
	names map[string]string // as templates say, to as it is served
	files map[string]asset  // by the latter
}

type asset struct {
	kind   string
	plain  []byte
	zipped []byte // nil where that would not be shorter
}

// hashLength is how much of the hash is in a name, in octets: enough that no two versions share it.
const hashLength = 8

func newAssets() *assets { return &assets{names: map[string]string{}, files: map[string]asset{}} }

// add serves the files of a folder. A name that is there already is an error. In
// scripts, "asset:NAME" is replaced by where the asset of that name is, which must be there before.
func (a *assets) add(files fs.FS, folder string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fs.WalkDir(files, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		short := strings.TrimPrefix(name, folder+"/")
		if _, twice := a.names[short]; twice {
			return fmt.Errorf("asset %s is there twice", short)
		}
		if data, err = a.linked(short, data); err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		extension := path.Ext(short)
		served := strings.TrimSuffix(short, extension) + "." + hex.EncodeToString(sum[:hashLength]) + extension
		a.names[short] = served
		a.files[served] = asset{kind: mime.TypeByExtension(extension), plain: data, zipped: zipped(data)}
		return nil
	})
}

// importMark is what a module writes in front of the name of another.
const importMark = ` from "asset:`

// linked is a script with the addresses of those that it imports.
func (a *assets) linked(name string, data []byte) ([]byte, error) {
	if path.Ext(name) != ".js" {
		return data, nil
	}
	text := string(data)
	for {
		before, rest, found := strings.Cut(text, importMark)
		if !found {
			return []byte(text), nil
		}
		other, rest, _ := strings.Cut(rest, `"`)
		served, ok := a.names[other]
		if !ok {
			return nil, fmt.Errorf("%s imports %q, which is not there", name, other)
		}
		text = before + ` from "` + assetPath + served + `"` + rest
	}
}

// zipped is data under gzip, or nil if that saves nothing.
func zipped(data []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil
	}
	if _, err := w.Write(data); err != nil || w.Close() != nil || b.Len() >= len(data) {
		return nil
	}
	return b.Bytes()
}

// url is where an asset is; templates fail on one that there is not.
func (a *assets) url(name string) (string, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	served, ok := a.names[name]
	if !ok {
		return "", fmt.Errorf("there is no asset %q", name)
	}
	return assetPath + served, nil
}

// ServeHTTP implements http.Handler.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.RLock()
	file, ok := a.files[strings.TrimPrefix(r.URL.Path, assetPath)]
	a.mu.RUnlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'") // of a picture opened by itself
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Vary", "Accept-Encoding")
	body := file.plain
	if file.zipped != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		body = file.zipped
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // fails only when the client has gone away
	}
}

// acceptsGzip reads Accept-Encoding as far as browsers use it (RFC 9110 section 12.5.3).
func acceptsGzip(field string) bool {
	for item := range strings.SplitSeq(field, ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(item), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			weight = strings.ReplaceAll(weight, " ", "")
			return weight != "q=0" && weight != "q=0.0"
		}
	}
	return false
}
