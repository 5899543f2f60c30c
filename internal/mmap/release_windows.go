package mmap

// Release lets the system take the memory of pages read so far. Windows does
// so by itself when memory is short.
func (f *File) Release() {}
