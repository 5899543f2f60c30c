package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

// TestOllamaAsk checks what is asked of ollama's API and how its times are
// read, on a server that answers as its documentation says.
func TestOllamaAsk(t *testing.T) {
	var asked map[string]any
	answer := `{"model":"peer","response":"…","done":true,"load_duration":500000000,"prompt_eval_count":512,` +
		`"prompt_eval_duration":2000000000,"eval_count":128,"eval_duration":1280000000}`
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/generate" {
			t.Errorf("asked %s", r.URL.Path)
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		if _, err := w.Write([]byte(answer)); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	idle := exec.Command("sleep", "10")
	if err := idle.Start(); err != nil {
		t.Fatal(err)
	}
	s := &ollamaServer{address: strings.TrimPrefix(server.URL, "http://"), cmd: idle}
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	p, err := s.ask(context.Background(), "Once upon a time", 128, 2)
	if err != nil {
		t.Fatal(err)
	}
	if p.Prefill != 2 || p.Load != 0.5 || p.FirstToken != 2.5 || p.Decoded != 127 || p.Decode < 1.269 || p.Decode > 1.271 || p.PeakRSS == 0 {
		t.Errorf("pass %+v", p)
	}
	options, _ := asked["options"].(map[string]any)
	if asked["raw"] != true || asked["stream"] != false || options["num_predict"] != 128.0 || options["num_thread"] != 2.0 {
		t.Errorf("asked %v", asked)
	}
	status, answer = http.StatusNotFound, `{"error":"model 'peer' not found"}`
	if _, err := s.ask(context.Background(), "x", 1, 1); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("error %v, want the server's words", err)
	}
}
