// Package convert is the pipeline from a checkpoint to model folders: read the
// inventory, plan, write. Planning decides everything; writing streams the
// weights through a stated number of buffers to known offsets, so that bytes
// do not depend on the number of workers and memory not on the model.
//
// A [Job] writes into a staging folder inside the output folder; [Job.Publish]
// renames the finished artifacts into place. What a crash leaves behind is the
// staging folder alone, which the next run removes.
//
// A Job is used by one goroutine; it starts its own workers.
package convert
