// Reads one Kubernetes object as JSON and prints what GitOps tools make of its status: kstatus, by which Flux and
// Helm wait, and Argo CD, by a health script that is given as a file.
//
//	kubectl get awi prod -o json | gitops health.lua
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Verdict is what one tool says.
type Verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: %s HEALTH_SCRIPT <object.json", os.Args[0]))
	}
	verdicts, err := judge(os.Args[1], os.Stdin)
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}

func judge(healthScript string, input io.Reader) (map[string]Verdict, error) {
	script, err := os.ReadFile(healthScript)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(input)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(text); err != nil {
		return nil, err
	}

	kstatus, err := status.Compute(object)
	if err != nil {
		return nil, fmt.Errorf("kstatus: %w", err)
	}
	// Without Lua's standard libraries, as Argo CD runs scripts that its administrators write.
	argocd, err := lua.VM{UseOpenLibs: false}.ExecuteHealthLua(object, string(script))
	if err != nil {
		return nil, fmt.Errorf("Argo CD: %w", err)
	}
	return map[string]Verdict{
		"kstatus": {string(kstatus.Status), kstatus.Message},
		"argocd":  {string(argocd.Status), argocd.Message},
	}, nil
}
