// Package report writes what is known of a model's artifacts as one page: a
// Markdown file with charts as SVG files beside it, and an HTML file that needs
// nothing beside it.
//
// A [Page] is plain data, filled by who measured. The package measures nothing,
// opens no session, and adds no figure: what is nil is a dash and, where
// [Page.Missing] says so, a reason. The same page gives the same bytes. All text
// is taken for hostile, names of models and artifacts above all: it is escaped
// for the place it is put in, and stripped of control and direction characters.
//
// Charts are drawn by gonum.org/v1/plot onto a canvas of this package, whose SVG
// has CSS classes for colours: light and dark come from the page or, in a file of
// its own, from prefers-color-scheme.
package report
