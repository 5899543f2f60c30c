//go:build !linux

package bench

import "errors"

func dropCache([]string) error {
	return errors.New("only Linux lets a program drop files from the system's cache")
}
