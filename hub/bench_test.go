package hub_test

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/hub"
	"github.com/llama-pajamas/llama-pajamas/internal/fakehub"
)

// BenchmarkDownload fetches two shards of 32 MB over the loopback, hashing
// them on the way.
func BenchmarkDownload(b *testing.B) {
	m := &fakehub.Model{Files: map[string][]byte{"config.json": []byte("{}")}}
	const size = 32 << 20
	for i := range 2 {
		m.Files["m-0000"+strconv.Itoa(i+1)+"-of-00002.safetensors"] = noise(uint64(i), size)
	}
	s := fakehub.New(b, map[string]*fakehub.Model{id: m})
	dir, n := b.TempDir(), 0
	b.SetBytes(2 * size)
	for b.Loop() {
		n++
		if _, err := hub.Download(b.Context(), ref(b, id), hub.Options{CacheDir: filepath.Join(dir, strconv.Itoa(n)), Endpoint: s.URL}); err != nil {
			b.Fatal(err)
		}
	}
}
