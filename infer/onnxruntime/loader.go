package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// configExternalFolder tells ONNX Runtime where the data files of a graph
// given as bytes lie.
const configExternalFolder = "session.model_external_initializers_file_folder_path"

// Open loads the folder's graphs with the first provider of the chain that can
// run them; each one passed over is a warning that says why, and a
// [Fallback] of the session. Before a provider is trusted it evaluates one
// token.
//
// The fit check of infer.Fit comes first: it fails with an infer.FitError where
// the context asked for does not fit the free memory, and shortens the model's
// own limit where none was asked for.
func (b *Backend) Open(ctx context.Context, folder *modeldir.Folder, o infer.OpenOptions) (infer.Session, error) {
	start := time.Now()
	s, err := b.open(ctx, folder, o)
	if err != nil {
		return nil, fmt.Errorf("open model %s: %w", folder.Model, err)
	}
	b.log.Debug("model loaded", "file", folder.Model, "seconds", time.Since(start).Seconds(),
		"cache_bytes_per_token", s.info.CacheBytesPerToken, "context", s.info.MaxContext)
	return s, nil
}

func (b *Backend) open(ctx context.Context, folder *modeldir.Folder, o infer.OpenOptions) (*session, error) {
	graphs, err := readGraphs(b.lib, folder, o)
	if err != nil {
		return nil, err
	}
	if o.Threads <= 0 {
		o.Threads = hardware.DetectCPU(ctx).Threads()
	}
	var passed []Fallback
	for i := range b.chain {
		p := &b.chain[i]
		s, why, err := b.try(ctx, p, folder, graphs, o, i == 0)
		if err == nil {
			s.fallbacks = passed
			return s, nil
		}
		if why == "" || i == len(b.chain)-1 || ctx.Err() != nil {
			graphs.close()
			return nil, err
		}
		next := b.chain[i+1].name
		passed = append(passed, Fallback{From: p.name, To: next, Why: why})
		b.log.Warn("falling back to another execution provider", "from", p.name, "to", next, "why", why)
	}
	return nil, errors.New("no execution provider to try") // not reached: the chain has an end
}

// try opens the graphs with one provider. Where another may do better why says
// what is in the way, else only err does.
func (b *Backend) try(ctx context.Context, p *provider, folder *modeldir.Folder, graphs *graphs, o infer.OpenOptions, asked bool) (s *session, why string, err error) {
	if why := p.usable(b); why != "" {
		return nil, why, errors.New(why)
	}
	if o.Chunk <= 0 {
		o.Chunk = p.chunk
	}
	if o.AllLogits {
		o.Chunk = min(o.Chunk, allLogitsChunk)
	}
	r := &request{ctx: ctx, open: o, folder: folder, graphs: graphs, machine: b.machine, env: b.env, options: b.optionsOf(p, asked)}
	if r.context, err = b.contextLimit(ctx, p, r, graphs); err != nil {
		if fit := (*infer.FitError)(nil); errors.As(err, &fit) {
			return nil, err.Error(), err
		}
		return nil, "", err
	}
	if r.dir, err = b.artifactDir(r, p); err != nil {
		b.log.Warn("compiled models are not kept", "why", err.Error())
	}
	done := b.watch(p, r.dir)
	defer done()
	s, err = b.start(p, r, graphs)
	if err == nil {
		return s, "", nil
	}
	var added *ort.ProviderError
	if errors.As(err, &added) {
		return nil, "it could not be added: " + added.Err.Error(), err
	}
	return nil, err.Error(), err
}

// optionsOf is what a provider gets of the user's options: all if it was asked
// for, else the number of the device where it knows that.
func (b *Backend) optionsOf(p *provider, asked bool) map[string]string {
	if asked {
		return b.o.ProviderOptions
	}
	if id, ok := b.o.ProviderOptions["device_id"]; ok && p.memory != "" {
		return map[string]string{"device_id": id}
	}
	return nil
}

// start loads the graphs and runs one token.
func (b *Backend) start(p *provider, r *request, graphs *graphs) (*session, error) {
	s := &session{lib: b.lib, graphs: graphs, all: r.open.AllLogits, info: infer.Info{
		Backend: b.Name(), Version: b.lib.Version(), Provider: p.ep, Model: r.folder.Model,
		Threads: r.open.Threads, WeightBytes: graphs.onDisk, MaxContext: r.context,
	}}
	if err := b.fill(s, p, r, graphs); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func (b *Backend) fill(s *session, p *provider, r *request, graphs *graphs) (err error) {
	if s.decode, err = b.load(p, r, graphs.decode); err != nil {
		return fmt.Errorf("the model could not be loaded: %w", err)
	}
	if graphs.prefill != nil {
		if s.prefill, err = b.load(p, r, graphs.prefill); err != nil {
			return fmt.Errorf("%s could not be loaded: %w", filepath.Base(graphs.prefill.path), err)
		}
	}
	if err := s.prepare(b, p, r); err != nil {
		return err
	}
	if p.ep == cpu.ep {
		return nil
	}
	if err := s.warm(r.ctx); err != nil {
		return fmt.Errorf("the first run failed: %w", err)
	}
	return nil
}

// load makes the session of one graph.
func (b *Backend) load(p *provider, r *request, g *graph) (*engine, error) {
	opts := ort.SessionOptions{Config: map[string]string{}, Optimization: b.o.Optimization, ProfilePrefix: b.o.Profile}
	if b.o.Record {
		opts.Config["session.record_ep_graph_assignment_info"] = "1"
	}
	own := *r
	own.graph = g
	if err := p.configure(&opts, &own); err != nil {
		return nil, err
	}
	maps.Copy(opts.Config, b.o.SessionConfig)
	e := &engine{lib: b.lib}
	edited := g.edited != nil && (r.open.AllLogits || p.rows)
	err := g.weights.duringLoad(func() (err error) {
		if !edited {
			e.raw, err = b.env.NewSession(r.ctx, g.path, opts)
			return err
		}
		dir, err := filepath.Abs(r.folder.Dir)
		if err != nil {
			return err
		}
		opts.Config[configExternalFolder] = dir
		e.raw, err = b.env.NewSessionFromBytes(r.ctx, g.edited, opts)
		return err
	})
	if err != nil {
		return nil, err
	}
	if e.sig, err = readSignature(r.folder, e.raw.Inputs(), e.raw.Outputs()); err == nil {
		err = e.prepare()
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// watch reports while a provider compiles: where loading takes its time and
// nothing compiled is there yet. done ends it.
func (b *Backend) watch(p *provider, dir string) (done func()) {
	if b.o.Building == nil || p.compiles == "" {
		return func() {}
	}
	if dir != "" {
		// The pattern is well formed.
		if found, _ := filepath.Glob(filepath.Join(dir, p.compiles)); len(found) > 0 {
			return func() {}
		}
	}
	start, stop, ended := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		shown := false
		for {
			select {
			case <-tick.C:
				shown = true
				b.o.Building(p.name, time.Since(start), false)
			case <-stop:
				if shown {
					b.o.Building(p.name, time.Since(start), true)
				}
				return
			}
		}
	}()
	return func() { close(stop); <-ended }
}

// defaultContext is the limit of a model whose files tell none.
const defaultContext = 4096

// minContext is the shortest context worth starting with unasked.
const minContext = 256

// contextLimit is the longest sequence the session will take, from the
// model's own limit, the caches of fixed length, the caller's wish and the free
// memory.
func (b *Backend) contextLimit(ctx context.Context, p *provider, r *request, graphs *graphs) (int, error) {
	own := r.folder.MaxContext()
	if fixed := graphs.decode.fixedContext(); fixed > 0 && (own == 0 || fixed < own) {
		own = fixed
	}
	limit, asked := own, r.open.Context
	switch {
	case asked < 0:
		return 0, fmt.Errorf("a context of %d tokens: use 1 or more, or 0 for the model's own limit", asked)
	case asked > 0 && own > 0 && asked > own:
		return 0, fmt.Errorf("a context of %d tokens is beyond the model's %d", asked, own)
	case asked > 0:
		limit = asked
	case own == 0:
		return defaultContext, nil
	case p.context > 0 && own > p.context:
		b.log.Info("context limited, as longer ones take memory whether used or not", "provider", p.name, "context", p.context, "model_context", own)
		limit = p.context
	}
	if r.open.NoFitCheck {
		return limit, nil
	}
	fit := infer.Fit{
		Weights: graphs.loaded(p), CachePerToken: cacheBytesPerToken(r.folder), Overhead: p.overhead,
		Free: p.free(ctx, b.machine, r.options), Context: limit,
	}
	err := fit.Check()
	if err == nil {
		return limit, nil
	}
	if largest := fit.Largest(); asked == 0 && largest >= minContext {
		b.log.Warn("context shortened to what fits the free memory", "context", largest, "model_context", own,
			"weight_bytes", fit.Weights, "cache_bytes_per_token", fit.CachePerToken, "free_bytes", fit.Free)
		return largest, nil
	}
	return 0, err
}

// cacheBytesPerToken is an estimate from the folder's facts, before the graph
// is loaded; 0 where they are missing.
func cacheBytesPerToken(folder *modeldir.Folder) int64 {
	size := map[string]int64{"float16": 2, "int8": 1, "uint8": 1}
	elem := int64(4)
	if m := folder.Metadata; m != nil {
		if n, ok := size[m.Hints.KVCache]; ok {
			elem = n
		}
	}
	if g := folder.GenAI; g != nil {
		d := g.Model.Decoder
		return 2 * int64(d.Layers) * int64(d.KVHeads) * int64(d.HeadSize) * elem
	}
	return 0
}
