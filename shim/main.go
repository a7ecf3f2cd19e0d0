// The CNI executable of a node: hands each CNI call to spiderpool-agent over a unix socket and prints the agent's answer.
//
// One binary is installed under several names (spiderpool, coordinator, ifacer, spiderpool-multus); the name travels with
// the call, and the agent decides. What belongs here: the CNI protocol's own checks (environment, versions), done by the
// CNI project's skel package, and the transport. What does not: any knowledge of addresses, interfaces or Kubernetes.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// release is set by the linker: -X main.release=v1.2.3.
var release = "unreleased"

// errRefused ends a call that the agent answered with an error of its own, which is already rendered.
var errRefused = errors.New("refused by spiderpool-agent")

func main() {
	os.Exit(run(filepath.Base(os.Args[0])))
}

// run serves the one CNI call of this process and gives its exit code.
func run(plugin string) int {
	config, err := takeStdin()
	if err != nil {
		return fail(types.NewError(types.ErrIOFailure, fmt.Sprintf("standard input cannot be read: %v", err), ""), nil)
	}
	var answered answer
	serve := func(args *skel.CmdArgs) error {
		reply, err := relay(plugin, os.Getenv("CNI_COMMAND"), args.StdinData)
		if err != nil {
			return err
		}
		answered = reply
		if reply.ExitCode != 0 {
			return errRefused
		}
		return nil
	}
	functions := skel.CNIFuncs{Add: serve, Del: serve, Check: serve, GC: serve, Status: serve}
	failure := skel.PluginMainFuncsWithError(functions, versions(plugin), about(plugin))
	// The answer is printed only here: skel may still refuse a call after the agent agreed (code 8), and standard output
	// must hold one JSON object.
	switch {
	case answered.ExitCode != 0:
		return write(answered.Output, answered.ExitCode)
	case failure != nil:
		return fail(failure, config)
	default:
		return write(answered.Output, 0)
	}
}

// takeStdin reads the network configuration and leaves a copy of it for skel, which reads os.Stdin itself.
//
// An error reply must carry the version that the configuration asks for, also when skel refuses it before it calls back.
// Calls that carry no configuration read nothing, so that the program does not wait at a terminal.
func takeStdin() ([]byte, error) {
	switch os.Getenv("CNI_COMMAND") {
	case "", "VERSION":
		return nil, nil
	}
	config, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	os.Stdin = reader
	go func() { // a pipe holds 64 KiB, a configuration may be larger
		_, _ = writer.Write(config)
		_ = writer.Close()
	}()
	return config, nil
}

// versions are the CNI versions that a plugin of this name speaks.
func versions(plugin string) version.PluginInfo {
	if plugin == "spiderpool" {
		return version.VersionsStartingFrom("0.3.0") // older results cannot carry several addresses of a family
	}
	return version.All
}

// about is what a plugin of this name says of itself when it is started by hand.
func about(plugin string) string {
	switch plugin {
	case "spiderpool":
		return "Spiderpool IPAM " + release
	case "coordinator":
		return "Coordinator"
	case "ifacer":
		return "Subvlan" // the name by which the original introduces itself
	default:
		return plugin + " " + release
	}
}

// fail prints a CNI error in the version that the configuration asks for.
func fail(failure *types.Error, config []byte) int {
	// skel takes "null" for an object without a name
	if failure.Code == types.ErrInvalidNetworkConfig && bytes.Equal(bytes.TrimSpace(config), []byte("null")) {
		failure = types.NewError(types.ErrDecodingFailure, "network config is null, not a JSON object", "")
	}
	requested, err := (&version.ConfigDecoder{}).Decode(config)
	if err != nil {
		requested = ""
	}
	rendered, err := json.MarshalIndent(struct {
		CNIVersion string `json:"cniVersion,omitempty"`
		types.Error
	}{requested, *failure}, "", "    ")
	if err != nil {
		return write(failure.Msg, 1)
	}
	return write(string(rendered)+"\n", 1)
}

// write puts the text on standard output, to the letter, and gives the exit code.
func write(text string, exitCode int) int {
	if _, err := io.WriteString(os.Stdout, text); err != nil {
		fmt.Fprintf(os.Stderr, "standard output cannot be written: %v\n", err)
		return 1
	}
	return exitCode
}
