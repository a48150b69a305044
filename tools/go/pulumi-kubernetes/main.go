// Command pulumi-resource-kubernetes is the upstream pulumi-kubernetes provider.
//
// Upstream ships the provider as a Go module but leaves two generated files
// out of it. tools/build.py makes them from the schema of the same module
// before it compiles this program, so that nothing generated is committed.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
)

const version = "4.25.0"

//go:embed schema-embed.json
var schema []byte

//go:embed terraform-mapping-embed.json
var terraformMapping []byte

func main() {
	provider.Serve("kubernetes", version, schema, terraformMapping)
}
