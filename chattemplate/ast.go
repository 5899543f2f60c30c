package chattemplate

// The tree the parser makes. Names carry a slot reference that scope.go fills
// in; everything else is final after parsing.

// expr is an expression.
type expr interface {
	// eval computes the value in an activation.
	eval(a *activation) (Value, error)
}

// stmt is a statement.
type stmt interface {
	// exec runs the statement, printing to out.
	exec(a *activation, out *output) (control, error)
	// lineNo is the source line, for errors.
	lineNo() int
}

// control is how a statement ended.
type control uint8

const (
	ctlNext control = iota
	ctlBreak
	ctlContinue
)

// slotRef says where a variable lives: slot in the record hops levels of
// functions up.
type slotRef struct{ hops, slot int }

type (
	constExpr struct{ v Value }
	nameExpr  struct {
		name  string
		line  int
		store bool // assigned, not read
		param bool // declares a parameter (macro arguments, with)
		ref   slotRef
	}
	// nsRefExpr is the target ns.attr of a set.
	nsRefExpr struct {
		obj  *nameExpr
		attr string
	}
	tupleExpr struct{ items []expr }
	listExpr  struct{ items []expr }
	dictExpr  struct{ keys, vals []expr }
	condExpr  struct {
		test, then expr
		otherwise  expr // nil without else
		line       int
	}
	orExpr    struct{ a, b expr }
	andExpr   struct{ a, b expr }
	notExpr   struct{ x expr }
	unaryExpr struct {
		op byte
		x  expr
	}
	binaryExpr struct {
		op   tokenKind
		a, b expr
	}
	concatExpr  struct{ items []expr }
	compareExpr struct {
		first expr
		ops   []compareOperand
	}
	compareOperand struct {
		op string // ==, !=, <, <=, >, >=, in, notin
		x  expr
	}
	getattrExpr struct {
		obj  expr
		name string
	}
	getitemExpr struct{ obj, index expr }
	sliceExpr   struct{ obj, start, stop, step expr } // nil parts are absent
	callExpr    struct {
		fn   expr
		args argList
	}
	filterExpr struct {
		x    expr // nil for the body of a filter or set block
		name string
		line int
		args argList
	}
	testExpr struct {
		x    expr
		name string
		line int
		args argList
	}
)

// argList is the arguments of a call as written.
type argList struct {
	pos       []expr
	kwNames   []string
	kwValues  []expr
	dynArgs   expr // *args
	dynKwargs expr // **kwargs
}

// at is embedded in statements and holds their line.
type at struct{ line int }

func (s at) lineNo() int { return s.line }

type (
	textStmt struct {
		at
		text string
	}
	printStmt struct {
		at
		x expr
	}
	// ifStmt has one body more than tests where there is an else.
	ifStmt struct {
		at
		tests  []expr
		bodies [][]stmt
	}
	forStmt struct {
		at
		target    expr
		iter      expr
		test      expr // nil without if
		testVars  expr // target again, with its own slots inside the test
		body      []stmt
		otherwise []stmt
		recursive bool
		extended  bool // the body uses loop
		loopRef   slotRef
		fn        *function // the loop as a function, if recursive
		testFn    *function // the test as a function
		frame     frame     // around the body
		testFrame frame
		elseFrame frame
	}
	setStmt struct {
		at
		target expr
		value  expr
	}
	setBlockStmt struct {
		at
		target expr
		filter expr // nil, or a chain whose innermost operand is nil
		body   []stmt
		frame  frame
	}
	macroStmt struct {
		at
		def    *macroDef
		target *nameExpr
	}
	callStmt struct {
		at
		def  *macroDef
		call *callExpr // nil for the generation tag
	}
	filterStmt struct {
		at
		filter expr
		body   []stmt
		frame  frame
	}
	withStmt struct {
		at
		targets []expr
		values  []expr
		body    []stmt
		frame   frame
	}
	doStmt struct {
		at
		x expr
	}
	controlStmt struct {
		at
		ctl control
	}
)

// macroDef is a macro, or the body of a call block.
type macroDef struct {
	name     string
	line     int
	params   []*nameExpr
	defaults []expr // of the last len(defaults) params
	body     []stmt
	fn       *function
	frame    frame
	// Slots of the implicit parameters; -1 where the body does not use them.
	caller, kwargs, varargs int
	explicitCaller          bool
}

// function is a piece of template with its own variables: the whole template,
// a macro, a recursive loop, a loop test.
type function struct {
	slots int // variables in its activation record
}

// frame is a scope inside a function: what to do with its variables on entry.
type frame struct {
	loads []load
	clear []int // slots that end with the scope
}

// load sets a variable on entry to a scope.
type load struct {
	slot int
	kind loadKind
	name string  // loadResolve: the name in the context
	from slotRef // loadAlias: the outer variable
}

type loadKind uint8

const (
	loadUndefined loadKind = iota
	loadResolve
	loadAlias
	loadParam
)

// walkExpr calls visit on e and everything in it, in source order. soft tells
// whether the place is inside a conditional expression.
func walkExpr(e expr, soft bool, visit func(e expr, soft bool)) {
	if e == nil {
		return
	}
	visit(e, soft)
	each := func(list ...expr) {
		for _, x := range list {
			walkExpr(x, soft, visit)
		}
	}
	switch e := e.(type) {
	case *nsRefExpr:
		each(e.obj)
	case *tupleExpr:
		each(e.items...)
	case *listExpr:
		each(e.items...)
	case *dictExpr:
		for i := range e.keys {
			each(e.keys[i], e.vals[i])
		}
	case *condExpr:
		soft = true
		each(e.test, e.then, e.otherwise)
	case *orExpr:
		each(e.a, e.b)
	case *andExpr:
		each(e.a, e.b)
	case *notExpr:
		each(e.x)
	case *unaryExpr:
		each(e.x)
	case *binaryExpr:
		each(e.a, e.b)
	case *concatExpr:
		each(e.items...)
	case *compareExpr:
		each(e.first)
		for _, op := range e.ops {
			each(op.x)
		}
	case *getattrExpr:
		each(e.obj)
	case *getitemExpr:
		each(e.obj, e.index)
	case *sliceExpr:
		each(e.obj, e.start, e.stop, e.step)
	case *callExpr:
		each(e.fn)
		e.args.each(each)
	case *filterExpr:
		each(e.x)
		e.args.each(each)
	case *testExpr:
		each(e.x)
		e.args.each(each)
	}
}

func (l *argList) each(visit func(list ...expr)) {
	visit(l.pos...)
	visit(l.kwValues...)
	visit(l.dynArgs, l.dynKwargs)
}
