// Package hub brings a model of the Hugging Face hub onto this machine:
// "owner/name@revision" becomes a local snapshot folder that package checkpoint
// opens.
//
// Files lie where Python's huggingface_hub puts them, so that each finds what
// the other has fetched (huggingface_hub 2.4.0, file_download.py and
// _tree_cache.py):
//
//	CACHE/models--OWNER--NAME/
//	    refs/main                  the commit that a branch or tag stood for
//	    blobs/ETAG                 contents, by sha256 (LFS) or git blob sha1
//	    blobs/ETAG.incomplete      what has come of one; the next try goes on there
//	    snapshots/COMMIT/FILE   -> ../../blobs/ETAG
//	    trees/COMMIT.json          the commit's list of files
//	CACHE/.locks/models--OWNER--NAME/ETAG.lock
//
// A file counts as fetched once its size and its sha256 or git sha1 are the
// hub's. Files already in the cache are checked by size alone.
//
// The package reads no environment itself: [FromEnv] takes the look-up
// function. It does not log in, upload, or speak Xet; the hub serves Xet files
// over plain HTTP too. It knows models only, no datasets.
//
// All functions may be called concurrently, also from several processes on one
// cache.
package hub
