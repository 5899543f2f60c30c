package ort

import (
	"fmt"
	"unsafe"
)

// Metadata is what a model says about itself.
type Metadata struct {
	Producer, Graph, Domain, Description string
	Version                              int64
	Custom                               map[string]string
}

// Metadata reads the model's metadata.
func (s *Session) Metadata() (Metadata, error) {
	if err := s.h.acquire("read the metadata of", s.name); err != nil {
		return Metadata{}, err
	}
	defer s.h.release()
	l := s.lib
	var meta uintptr
	if err := l.check(l.call(fnSessionGetModelMetadata, s.h.ptr, uintptr(unsafe.Pointer(&meta)))); err != nil {
		return Metadata{}, fmt.Errorf("read the metadata of %s: %w", s.name, err)
	}
	defer l.call(fnReleaseModelMetadata, meta)
	m, err := l.readMetadata(meta)
	if err != nil {
		return Metadata{}, fmt.Errorf("read the metadata of %s: %w", s.name, err)
	}
	return m, nil
}

func (l *Library) readMetadata(meta uintptr) (m Metadata, err error) {
	for _, f := range []struct {
		fn  int
		dst *string
	}{
		{fnModelMetadataGetProducerName, &m.Producer},
		{fnModelMetadataGetGraphName, &m.Graph},
		{fnModelMetadataGetDomain, &m.Domain},
		{fnModelMetadataGetDescription, &m.Description},
	} {
		var p uintptr
		if err := l.check(l.call(f.fn, meta, l.allocator, uintptr(unsafe.Pointer(&p)))); err != nil {
			return m, err
		}
		if *f.dst, err = l.takeString(p); err != nil {
			return m, err
		}
	}
	if err := l.check(l.call(fnModelMetadataGetVersion, meta, uintptr(unsafe.Pointer(&m.Version)))); err != nil {
		return m, err
	}
	m.Custom, err = l.customMetadata(meta)
	return m, err
}

func (l *Library) customMetadata(meta uintptr) (map[string]string, error) {
	var keys uintptr
	var n int64
	err := l.check(l.call(fnModelMetadataGetCustomMetadataMapKeys, meta, l.allocator,
		uintptr(unsafe.Pointer(&keys)), uintptr(unsafe.Pointer(&n))))
	if err != nil {
		return nil, err
	}
	custom := make(map[string]string, n)
	if keys == 0 {
		return custom, nil
	}
	for _, key := range unsafe.Slice((*uintptr)(pointer(keys)), n) {
		var value uintptr
		if err := l.check(l.call(fnModelMetadataLookupCustomMetadataMap, meta, l.allocator, key, uintptr(unsafe.Pointer(&value)))); err != nil {
			return nil, err
		}
		k, err := l.takeString(key)
		if err != nil {
			return nil, err
		}
		if custom[k], err = l.takeString(value); err != nil {
			return nil, err
		}
	}
	return custom, l.free(keys)
}

// NodeAssignment says which execution provider runs a node.
type NodeAssignment struct {
	Provider, Node, Operator string
}

// Assignments lists which provider each node of the graph was given to, as
// the graph was when providers chose from it. The session must have been made
// with Config "session.record_ep_graph_assignment_info": "1".
func (s *Session) Assignments() ([]NodeAssignment, error) {
	if err := s.h.acquire("read the providers of", s.name); err != nil {
		return nil, err
	}
	defer s.h.release()
	list, err := s.assignments()
	if err != nil {
		return nil, fmt.Errorf("read which provider runs each node of %s: %w", s.name, err)
	}
	return list, nil
}

func (s *Session) assignments() ([]NodeAssignment, error) {
	l := s.lib
	subgraphs, err := l.array(fnSessionGetEpGraphAssignmentInfo, s.h.ptr)
	if err != nil {
		return nil, err
	}
	var list []NodeAssignment
	for _, sub := range subgraphs {
		provider, err := l.stringOf(fnEpAssignedSubgraphGetEpName, sub)
		if err != nil {
			return nil, err
		}
		nodes, err := l.array(fnEpAssignedSubgraphGetNodes, sub)
		if err != nil {
			return nil, err
		}
		for _, n := range nodes {
			name, err := l.stringOf(fnEpAssignedNodeGetName, n)
			if err != nil {
				return nil, err
			}
			operator, err := l.stringOf(fnEpAssignedNodeGetOperatorType, n)
			if err != nil {
				return nil, err
			}
			list = append(list, NodeAssignment{Provider: provider, Node: name, Operator: operator})
		}
	}
	return list, nil
}

// array calls a function that gives an array of pointers the object owns.
func (l *Library) array(fn int, object uintptr) ([]uintptr, error) {
	var list, n uintptr
	if err := l.check(l.call(fn, object, uintptr(unsafe.Pointer(&list)), uintptr(unsafe.Pointer(&n)))); err != nil || n == 0 {
		return nil, err
	}
	return unsafe.Slice((*uintptr)(pointer(list)), n), nil
}

// stringOf calls a function that gives a string the object owns.
func (l *Library) stringOf(fn int, object uintptr) (string, error) {
	var p uintptr
	if err := l.check(l.call(fn, object, uintptr(unsafe.Pointer(&p)))); err != nil {
		return "", err
	}
	return goString(p), nil
}
