package onnxruntime

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// lastPositionPrefix begins the names of the nodes by which this module's
// converter cuts the hidden states down to the last position (package
// convert/toonnx, LastPosition). Removing them gives logits at every position.
const lastPositionPrefix = "/model/last_position"

// configExternalFolder tells ONNX Runtime where the data files of a graph
// given as bytes lie.
const configExternalFolder = "session.model_external_initializers_file_folder_path"

// Open loads the folder's graph. The fit check of infer.Fit comes first: it
// fails with an infer.FitError where the context asked for does not fit the
// free memory, and shortens the model's own limit where none was asked for.
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
	weights, err := folder.WeightBytes()
	if err != nil {
		return nil, err
	}
	if o.Threads <= 0 {
		o.Threads = hardware.DetectCPU(ctx).Threads()
	}
	limit, err := b.contextLimit(ctx, folder, o, weights)
	if err != nil {
		return nil, err
	}
	g, err := b.readGraph(folder, o.AllLogits)
	if err != nil {
		return nil, err
	}
	raw, err := b.load(ctx, folder, g, o)
	if err != nil {
		g.weights.close()
		return nil, err
	}
	s, err := newSession(b, raw, folder, g, o)
	if err != nil {
		raw.Close()
		g.weights.close()
		return nil, err
	}
	if limit == 0 {
		limit = defaultContext
	}
	s.info.MaxContext, s.cache.limit = limit, limit
	s.info.WeightBytes = weights
	return s, nil
}

// load makes the session over the mapped weights.
func (b *Backend) load(ctx context.Context, folder *modeldir.Folder, g *graph, o infer.OpenOptions) (raw *ort.Session, err error) {
	opts := ort.SessionOptions{Config: map[string]string{}, Initializers: g.weights.values}
	b.provider.configure(&opts, o)
	err = g.weights.duringLoad(func() error {
		if g.edited == nil {
			raw, err = b.env.NewSession(ctx, folder.Model, opts)
			return err
		}
		dir, err := filepath.Abs(folder.Dir)
		if err != nil {
			return err
		}
		opts.Config[configExternalFolder] = dir
		raw, err = b.env.NewSessionFromBytes(ctx, g.edited, opts)
		return err
	})
	return raw, err
}

// defaultContext is the limit of a model whose files tell none.
const defaultContext = 4096

// contextLimit is the longest sequence the session will take, from the
// model's own limit, the caller's wish and the free memory.
func (b *Backend) contextLimit(ctx context.Context, folder *modeldir.Folder, o infer.OpenOptions, weights int64) (int, error) {
	own := folder.MaxContext()
	limit := own
	if o.Context > 0 {
		if own > 0 && o.Context > own {
			return 0, fmt.Errorf("a context of %d tokens is beyond the model's %d", o.Context, own)
		}
		limit = o.Context
	}
	if o.Context < 0 {
		return 0, fmt.Errorf("a context of %d tokens: use 1 or more, or 0 for the model's own limit", o.Context)
	}
	if o.NoFitCheck || limit == 0 {
		return limit, nil
	}
	fit := infer.Fit{
		Weights: weights, CachePerToken: cacheBytesPerToken(folder), Overhead: b.provider.overhead,
		Free: freeMemory(ctx), Context: limit,
	}
	err := fit.Check()
	if err == nil {
		return limit, nil
	}
	if largest := fit.Largest(); o.Context == 0 && largest >= minContext {
		b.log.Warn("context shortened to what fits the free memory", "context", largest, "model_context", own,
			"weight_bytes", weights, "cache_bytes_per_token", fit.CachePerToken, "free_bytes", fit.Free)
		return largest, nil
	}
	return 0, err
}

// freeMemory is the memory that can be had without swapping, 0 if the system
// does not tell.
func freeMemory(ctx context.Context) int64 {
	m, err := hardware.DetectMemory(ctx)
	if err != nil {
		return 0
	}
	return int64(m.Available)
}

// minContext is the shortest context worth starting with unasked.
const minContext = 256

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

// graph is what the loader finds in model.onnx before ONNX Runtime reads it.
type graph struct {
	shared  bool   // the cache is written in place
	edited  []byte // the graph with logits at every position; nil if it is loaded as it is
	weights *weights
}

// readGraph maps the weights, looks for the attention operator, which decides
// the cache's contract, and gives the graph logits at every position where
// asked to.
func (b *Backend) readGraph(folder *modeldir.Folder, allLogits bool) (*graph, error) {
	file, err := onnx.Open(folder.Model)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	g := file.Model.Graph
	out := &graph{}
	last := false
	for _, n := range g.Nodes {
		if n.Op == "GroupQueryAttention" {
			out.shared = true
			if w := n.Attr("local_window_size"); w != nil && w.I > 0 {
				return nil, &tensor.UnsupportedError{What: fmt.Sprintf("the sliding attention window of node %s", n.Label())}
			}
		}
		last = last || strings.HasPrefix(n.Name, lastPositionPrefix)
	}
	// genai says so where a quantized cache cannot be shared.
	if cfg := folder.GenAI; cfg != nil && !cfg.Search.ShareBuffer && folder.Metadata == nil {
		out.shared = false
	}
	if allLogits && last {
		removeLastPosition(g)
		if out.edited, err = file.Model.Encode(); err != nil {
			return nil, fmt.Errorf("take the nodes %s… out for logits at every position: %w", lastPositionPrefix, err)
		}
	}
	if out.weights, err = mapWeights(b.lib, file); err != nil {
		return nil, err
	}
	return out, nil
}

// removeLastPosition takes the nodes that cut down to the last position out.
func removeLastPosition(g *onnx.Graph) {
	g.RemoveNodes(func(n *onnx.Node) bool {
		if !strings.HasPrefix(n.Name, lastPositionPrefix) {
			return false
		}
		g.ReplaceUses(n.Output(0), n.Input(0))
		return true
	})
	g.Values = nil // shapes noted behind the nodes are wrong now; they are optional
	for i := range g.Outputs {
		if s := g.Outputs[i].Shape; len(s) == 3 {
			s[1] = onnx.Named("sequence_length")
		}
	}
}
