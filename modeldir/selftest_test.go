package modeldir

import (
	"reflect"
	"strings"
	"testing"
)

func TestSelfTest(t *testing.T) {
	dir := folderOf(t, map[string]string{"model.onnx": "x"})
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := f.ReadSelfTest(); s != nil || err != nil {
		t.Errorf("without a file: %v, %v", s, err)
	}
	want := &SelfTest{Reference: "by hand", Cases: []SelfTestCase{{Tokens: []int32{1, 2}, Top: []TokenLogit{{7, 1.5}, {3, -2}}}}}
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := f.ReadSelfTest()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v; want %+v", got, err, want)
	}
	for bad, says := range map[string]string{
		`{"schema_version":2}`:                                           "newer",
		`{"cases":[{"tokens":[],"top":[{"id":1,"logit":2}]}]}`:           "needs tokens",
		`{"cases":[{"tokens":[1],"top":[]}]}`:                            "needs tokens",
		`{"cases":[{"tokens":[-1],"top":[{"id":1,"logit":2}]}]}`:         "not a token id",
		`{"cases":[{"tokens":[1],"top":[{"id":1},{"id":2,"logit":2}]}]}`: "falling",
		`[`: "unexpected",
	} {
		if _, err := ParseSelfTest([]byte(bad)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want %q", bad, err, says)
		}
	}
}
