// Package runcode runs Python programs that a model wrote, to judge them by
// their tests, where the caller permits it in so many words ([Options.Allow]).
//
// On Linux a program runs in namespaces of its own (user, process, network,
// mount, IPC), under a filter of system calls: no network and no socket of any
// kind, no other process, no thread, no exec; every file system read-only but
// an empty working folder in memory, which is gone afterwards; home, /tmp, /run
// and /proc hidden, of /dev only null, zero and random numbers; no terminal;
// limits of time, memory, file size and output; hardly any environment, no
// standard input. What cannot be set up is an error, and no program runs without
// it: the package fails closed.
//
// Not prevented: a program can read files that the user may read and that lie
// outside of the hidden folders, and use the processor until its time is over.
// What it reads can leave only through its output. A program that is out to
// deceive can claim to have passed its tests, which run in the same process. A hole in the kernel is a
// hole here: whoever does not trust a model at all runs it in a machine of its
// own.
//
// Needed are Linux 5.12 or later on amd64 or arm64 that lets the user make
// namespaces, and Python 3.8 or later with ctypes. Elsewhere [Run] and [Check]
// return [ErrUnsupported] with the reason.
//
// Calls may be made concurrently; each starts one process.
package runcode
