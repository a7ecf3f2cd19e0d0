// Command lab-calico is the lab's default CNI plugin. It wires a pod the way un-encapsulated Calico does: one veth
// with a /32 (and a /128), a gateway that only proxy ARP answers for, no address on the host end, one host route a pod.
// Addresses come from the IPAM plugin of the configuration; routes between nodes and masquerade are the lab's own.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/ipam"
	"github.com/containernetworking/plugins/pkg/ns"
)

type config struct {
	types.PluginConf
	MTU int `json:"mtu"`
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "felix" {
		if err := felix(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	skel.PluginMainFuncs(
		skel.CNIFuncs{Add: add, Del: del, Check: check},
		version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0"),
		"lab-calico: the lab's stand-in for Calico without encapsulation",
	)
}

func parse(stdin []byte) (*config, error) {
	conf := &config{MTU: 1500}
	if err := json.Unmarshal(stdin, conf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "lab-calico: the configuration is not JSON", err.Error())
	}
	if conf.IPAM.Type == "" {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "lab-calico: ipam.type is empty", "")
	}
	if err := version.ParsePrevResult(&conf.PluginConf); err != nil {
		return nil, err
	}
	return conf, nil
}

func add(args *skel.CmdArgs) (err error) {
	conf, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	answer, err := ipam.ExecAdd(conf.IPAM.Type, args.StdinData)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = ipam.ExecDel(conf.IPAM.Type, args.StdinData)
		}
	}()
	leased, err := current.NewResultFromResult(answer)
	if err != nil {
		return err
	}
	if len(leased.IPs) == 0 {
		return fmt.Errorf("lab-calico: %s gave no address", conf.IPAM.Type)
	}
	result, err := wire(args, conf, addresses(leased))
	if err != nil {
		return err
	}
	result.DNS = conf.DNS
	return types.PrintResult(result, conf.CNIVersion)
}

func del(args *skel.CmdArgs) error {
	conf, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	if err := ipam.ExecDel(conf.IPAM.Type, args.StdinData); err != nil {
		return err
	}
	return unwire(args)
}

func check(args *skel.CmdArgs) error {
	conf, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	if err := ipam.ExecCheck(conf.IPAM.Type, args.StdinData); err != nil {
		return err
	}
	if conf.PrevResult == nil {
		return errors.New("lab-calico: CHECK needs prevResult")
	}
	before, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return err
	}
	pod, err := ns.GetNS(args.Netns)
	if err != nil {
		return err
	}
	defer pod.Close()
	return verify(pod, args.IfName, addresses(before))
}

// addresses gives the result's addresses as the pod wears them: without a network of their own, as Calico does.
func addresses(result *current.Result) []net.IP {
	found := make([]net.IP, 0, len(result.IPs))
	for _, ip := range result.IPs {
		found = append(found, ip.Address.IP)
	}
	return found
}
