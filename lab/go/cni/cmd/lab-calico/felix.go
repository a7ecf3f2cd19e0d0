package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// Rules as Calico's Felix leaves them on a node, for programs that have to live beside them: chains of its own in front of
// kube-proxy's, one pair a workload, each with a rule against packets of state INVALID, policy chains, a reverse path
// filter in the raw table. Every policy allows; a test puts its own rule into one.
//
//	lab-calico felix on     writes them for all workloads of the node; ADD and DEL keep up from then on
//	lab-calico felix off    takes them away

const (
	// Its presence means on. /run is the node's own and empty after a reboot, as the rules are.
	felixMarker = "/run/lab-calico/felix"

	fromDispatch, toDispatch = "cali-from-wl-dispatch", "cali-to-wl-dispatch"
	policyOut, policyIn      = "cali-po-lab", "cali-pi-lab"

	accepted, passed, workload = "0x10000/0x10000", "0x0/0x20000", "0x40000/0x40000"
)

// hooks names where the kernel's chains lead into Felix's; in the filter table these stand in front of kube-proxy's.
var hooks = map[string]map[string]string{
	"filter": {"INPUT": "cali-INPUT", "FORWARD": "cali-FORWARD", "OUTPUT": "cali-OUTPUT"},
	"raw":    {"PREROUTING": "cali-PREROUTING"},
}

func felixIsOn() bool {
	_, err := os.Stat(felixMarker)
	return err == nil
}

// baseRules gives, for iptables-restore, the chains that are there once a node, and that the kernel's chains lead to.
func baseRules() string {
	return strings.Join([]string{
		"*filter",
		":cali-INPUT - [0:0]", ":cali-FORWARD - [0:0]", ":cali-OUTPUT - [0:0]",
		":" + fromDispatch + " - [0:0]", ":" + toDispatch + " - [0:0]",
		":" + policyOut + " - [0:0]", ":" + policyIn + " - [0:0]",
		"-A cali-INPUT -i cali+ -j " + fromDispatch,
		"-A cali-INPUT -m mark --mark " + accepted + " -j ACCEPT",
		"-A cali-FORWARD -j MARK --set-xmark 0x0/0x30000",
		"-A cali-FORWARD -i cali+ -j " + fromDispatch,
		"-A cali-FORWARD -o cali+ -j " + toDispatch,
		"-A cali-OUTPUT -m mark --mark " + accepted + " -j ACCEPT",
		"-A cali-OUTPUT -o cali+ -j RETURN",
		"-A " + fromDispatch + " -m comment --comment \"cali:lab unknown workload\" -j DROP",
		"-A " + toDispatch + " -m comment --comment \"cali:lab unknown workload\" -j DROP",
		"-A " + policyOut + " -j MARK --set-xmark " + accepted,
		"-A " + policyIn + " -j MARK --set-xmark " + accepted,
		"-I INPUT 1 -m comment --comment \"cali:lab\" -j cali-INPUT",
		"-I FORWARD 1 -m comment --comment \"cali:lab\" -j cali-FORWARD",
		"-I OUTPUT 1 -m comment --comment \"cali:lab\" -j cali-OUTPUT",
		"COMMIT",
		"*raw",
		":cali-PREROUTING - [0:0]",
		"-A cali-PREROUTING -i cali+ -j MARK --set-xmark " + workload,
		"-A cali-PREROUTING -m mark --mark " + workload + " -m rpfilter --validmark --invert -j DROP",
		"-I PREROUTING 1 -m comment --comment \"cali:lab\" -j cali-PREROUTING",
		"COMMIT",
		"",
	}, "\n")
}

// workloadRules gives the chains of one workload, by the name of its host end.
func workloadRules(name string) string {
	lines := []string{"*filter", ":cali-fw-" + name + " - [0:0]", ":cali-tw-" + name + " - [0:0]"}
	for _, way := range []struct{ chain, policy string }{{"cali-fw-" + name, policyOut}, {"cali-tw-" + name, policyIn}} {
		lines = append(lines,
			"-A "+way.chain+" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
			"-A "+way.chain+" -m conntrack --ctstate INVALID -j DROP",
			"-A "+way.chain+" -j MARK --set-xmark 0x0/0x30000",
			"-A "+way.chain+" -m mark --mark "+passed+" -j "+way.policy,
			"-A "+way.chain+" -m mark --mark "+accepted+" -j RETURN",
			"-A "+way.chain+" -m comment --comment \"cali:lab no policy allows it\" -j DROP",
		)
	}
	return strings.Join(append(lines,
		"-I "+fromDispatch+" 1 -i "+name+" -g cali-fw-"+name,
		"-I "+toDispatch+" 1 -o "+name+" -g cali-tw-"+name,
		"COMMIT", "",
	), "\n")
}

// goneRules takes the chains of one workload away.
func goneRules(name string) string {
	return strings.Join([]string{
		"*filter",
		"-D " + fromDispatch + " -i " + name + " -g cali-fw-" + name,
		"-D " + toDispatch + " -o " + name + " -g cali-tw-" + name,
		"-F cali-fw-" + name, "-F cali-tw-" + name,
		"-X cali-fw-" + name, "-X cali-tw-" + name,
		"COMMIT", "",
	}, "\n")
}

func restore(rules string) error {
	for _, program := range []string{"iptables-restore", "ip6tables-restore"} {
		command := exec.Command(program, "--noflush", "--wait", "5")
		command.Stdin = strings.NewReader(rules)
		if said, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("lab-calico: %s: %w: %s", program, err, strings.TrimSpace(string(said)))
		}
	}
	return nil
}

// guard writes the chains of a workload, where Felix's rules are on.
func guard(name string) error {
	if !felixIsOn() {
		return nil
	}
	_ = restore(goneRules(name)) // those of an ADD that was cut off
	return restore(workloadRules(name))
}

// unguard takes the chains of a workload away; a DEL that comes twice finds none.
func unguard(name string) {
	if felixIsOn() {
		_ = restore(goneRules(name))
	}
}

func felix(words []string) error {
	switch strings.Join(words, " ") {
	case "on":
		return felixOn()
	case "off":
		return felixOff()
	}
	return errors.New("usage: lab-calico felix on|off")
}

func felixOn() error {
	if felixIsOn() {
		return nil
	}
	if err := restore(baseRules()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(felixMarker), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(felixMarker, nil, 0o644); err != nil {
		return err
	}
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if name := link.Attrs().Name; strings.HasPrefix(name, "cali") {
			if err := guard(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// felixOff asks iptables for its chains: workloads may have come and gone.
func felixOff() error {
	if !felixIsOn() {
		return nil
	}
	for _, program := range []string{"iptables", "ip6tables"} {
		for table, leads := range hooks {
			if err := clear(program, table, leads); err != nil {
				return err
			}
		}
	}
	return os.Remove(felixMarker)
}

func clear(program, table string, leads map[string]string) error {
	listed, err := exec.Command(program, "-w", "-t", table, "-S").Output()
	if err != nil {
		return fmt.Errorf("lab-calico: %s -t %s -S: %w", program, table, err)
	}
	rules := []string{"*" + table}
	for hook, chain := range leads {
		rules = append(rules, "-D "+hook+" -m comment --comment \"cali:lab\" -j "+chain)
	}
	var drop []string
	for _, line := range strings.Split(string(listed), "\n") {
		if name, is := strings.CutPrefix(line, "-N cali-"); is {
			rules = append(rules, "-F cali-"+name)
			drop = append(drop, "-X cali-"+name)
		}
	}
	command := exec.Command(program+"-restore", "--noflush", "--wait", "5")
	command.Stdin = strings.NewReader(strings.Join(append(append(rules, drop...), "COMMIT", ""), "\n"))
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("lab-calico: %s-restore: %w: %s", program, err, strings.TrimSpace(string(said)))
	}
	return nil
}
