// Package docstest checks the Markdown files of the repository, so that what
// they tell a reader to type works. It is for tests only.
//
// Every relative link must lead to a file, and to a heading where it names one.
// Every fenced block says in its info string what it is; a block that does not
// fails the test:
//
//	```sh           commands: parsed as bash; each call of our programs must name
//	                commands and flags there are, with values that parse and the
//	                right number of arguments; make targets, packages given to go,
//	                and scripts of the repository must exist
//	```sh run       the same, and executed: all such blocks of a file in order,
//	                in one new folder, with the programs on PATH, no network and no
//	                home folder. Use the model sample:stories260K
//	```console      a session: lines that begin with "$ " are commands as in sh
//	```text         not checked: output, diagrams
//	```text usage   synopses: [ ] and | are taken away, then commands and flags
//	                must exist
//	```text message one message of our programs a line; see below
//	```json         must parse; so must yaml, and each line of jsonl. A go block
//	                that has a package clause must pass go vet, another must parse
//	```dockerfile   instructions must exist, RUN lines are checked as sh, and so is
//	                what ENTRYPOINT and CMD start
//	```systemd      sections and keys of a unit must exist, Exec lines are checked as sh
//
// A word "…" in a command stands for arguments left out; the number of
// arguments is not checked then.
//
// Messages are quoted where troubleshooting is told: in a "text message" block,
// or in the first column (in backquotes) of a table that follows a line
//
//	<!-- messages -->
//
// "…" stands for what varies. The pieces between must stand in string literals
// of the source, so that a message which is changed there is changed in the
// documentation too.
//
// Code spans in running text that begin with the name of one of our programs, or
// with make, are checked like synopses.
package docstest
