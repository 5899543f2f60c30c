// Package passes changes graphs without changing what they compute: extents
// become numbers, what follows from numbers is folded, operators become their
// parts, cuts to the last position come and go, dead nodes are dropped.
//
// The planner of package toonnx writes most forms directly: attention over
// groups without repeated keys and values, packed projections, norm and rotary
// forms, the cache's form and type. A pass is for what applies to any graph.
//
// Passes edit the model they are given and may run in any order; each leaves
// the nodes in execution order. A graph must not be shared while one runs.
package passes
