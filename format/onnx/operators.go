package onnx

import "math"

// The operator sets of ai.onnx that the table in operators_data.go covers.
const (
	MinOpset = 21
	MaxOpset = 25
)

// Operator is what a schema says of one version of an operator.
type Operator struct {
	Domain string
	Name   string
	Since  int64 // first operator set with this version
	// MinInputs and MinOutputs count the leading formals that must be given.
	MinInputs, MinOutputs int
	Inputs, Outputs       []Formal
	Attrs                 []AttrRule
	Types                 []TypeVar
}

// Formal is one declared input or output.
type Formal struct {
	Name     string
	Type     string // name of a type variable of the operator
	Optional bool
	Variadic bool // the last one only: any number of tensors
	Mixed    bool // variadic whose tensors need not share one type
}

// AttrRule is one declared attribute.
type AttrRule struct {
	Name     string
	Type     AttrType
	Required bool
}

// TypeVar is a type variable and the element types it may stand for. All
// formals of one variable have the same type.
type TypeVar struct {
	Name string
	Set  TypeSet
}

// TypeSet is a set of element types: bit t is set where type t is a member.
type TypeSet uint32

// Has reports whether t is a member.
func (s TypeSet) Has(t ElemType) bool { return t.Valid() && s&(1<<t) != 0 }

// single is the only member; ok is false where there are more or none.
func (s TypeSet) single() (ElemType, bool) {
	for t := range elemTypes {
		if s == 1<<t {
			return ElemType(t), true
		}
	}
	return Undefined, false
}

// String lists the members.
func (s TypeSet) String() string {
	text := ""
	for t := range elemTypes {
		if s.Has(ElemType(t)) {
			if text != "" {
				text += ", "
			}
			text += elemTypes[t].name
		}
	}
	return text
}

// MaxInputs is the greatest number of inputs.
func (o *Operator) MaxInputs() int { return maxFormals(o.Inputs) }

// MaxOutputs is the greatest number of outputs.
func (o *Operator) MaxOutputs() int { return maxFormals(o.Outputs) }

func maxFormals(fs []Formal) int {
	if n := len(fs); n > 0 && fs[n-1].Variadic {
		return math.MaxInt
	}
	return len(fs)
}

// formal is the declaration of position i, nil beyond the last.
func formal(fs []Formal, i int) *Formal {
	if i < len(fs) {
		return &fs[i]
	}
	if n := len(fs); n > 0 && fs[n-1].Variadic {
		return &fs[n-1]
	}
	return nil
}

func (o *Operator) attr(name string) *AttrRule {
	for i := range o.Attrs {
		if o.Attrs[i].Name == name {
			return &o.Attrs[i]
		}
	}
	return nil
}

func (o *Operator) typeSet(name string) TypeSet {
	for _, v := range o.Types {
		if v.Name == name {
			return v.Set
		}
	}
	return 0
}

// FindOperator returns the version of an operator that is in force at an
// operator set version; nil where the table does not have it.
func FindOperator(domain, name string, opset int64) *Operator {
	domain = plainDomain(domain)
	var best *Operator
	for i := range operators {
		o := &operators[i]
		if o.Name == name && o.Domain == domain && o.Since <= opset && (best == nil || o.Since > best.Since) {
			best = o
		}
	}
	return best
}
