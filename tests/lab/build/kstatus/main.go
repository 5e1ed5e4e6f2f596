// Command kstatus-check reads Kubernetes objects as JSON from standard input (one per line, or a
// list) and prints what the kstatus library says of each: [{kind, namespace, name, status, message}].
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "k8s.io/apimachinery/pkg/util/json" // keeps whole numbers whole, as the library expects them
)

type verdict struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Status    string `json:"status"`
	Message   string `json:"message"`
}

func check(object map[string]any) (verdict, error) {
	u := &unstructured.Unstructured{Object: object}
	result, err := status.Compute(u)
	if err != nil {
		return verdict{}, fmt.Errorf("%s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
	}
	return verdict{u.GetKind(), u.GetNamespace(), u.GetName(), result.Status.String(), result.Message}, nil
}

// objects accepts a JSON array of objects and a single object.
func objects(raw json.RawMessage) ([]map[string]any, error) {
	if len(raw) > 0 && raw[0] == '[' {
		var list []map[string]any
		err := kjson.Unmarshal(raw, &list)
		return list, err
	}
	var one map[string]any
	err := kjson.Unmarshal(raw, &one)
	return []map[string]any{one}, err
}

func run(in io.Reader, out io.Writer) error {
	verdicts := []verdict{}
	for decoder := json.NewDecoder(in); ; {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return json.NewEncoder(out).Encode(verdicts)
		} else if err != nil {
			return err
		}
		list, err := objects(raw)
		if err != nil {
			return err
		}
		for _, object := range list {
			v, err := check(object)
			if err != nil {
				return err
			}
			verdicts = append(verdicts, v)
		}
	}
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus-check:", err)
		os.Exit(1)
	}
}
