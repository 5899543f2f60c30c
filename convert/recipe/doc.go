// Package recipe reads recipe files: which weight roles are stored in which
// form. A recipe is a JSON file with a name, a target and rules; later rules
// override earlier ones, so a file reads as "everything at 4 bits, but the
// values at 8". The built-in recipes are such files, in the data folder.
//
// Recipes are plain values, safe for concurrent reads.
package recipe
