package main

import (
	"strings"
	"testing"
)

// Every chain that a rule leads to must be there, and what one text makes the other takes away.
func TestChainsOfWorkloadsComeAndGo(t *testing.T) {
	made, gone := workloadRules("cali123"), goneRules("cali123")
	for _, chain := range []string{"cali-fw-cali123", "cali-tw-cali123"} {
		if !strings.Contains(made, ":"+chain+" ") {
			t.Errorf("%s is not made", chain)
		}
		if !strings.Contains(made, "-A "+chain+" -m conntrack --ctstate INVALID -j DROP") {
			t.Errorf("%s lets INVALID packets pass", chain)
		}
		if !strings.Contains(gone, "-X "+chain+"\n") {
			t.Errorf("%s stays", chain)
		}
	}
}

func TestRulesLeadToChainsThatAreThere(t *testing.T) {
	rules := baseRules() + workloadRules("cali123")
	for _, line := range strings.Split(rules, "\n") {
		words := strings.Fields(line)
		if len(words) < 2 || (words[len(words)-2] != "-j" && words[len(words)-2] != "-g") {
			continue
		}
		if target := words[len(words)-1]; strings.HasPrefix(target, "cali-") && !strings.Contains(rules, ":"+target+" ") {
			t.Errorf("%s: no such chain", line)
		}
	}
}

// The kernel's chains take no name longer than 28 characters.
func TestNamesOfChainsFit(t *testing.T) {
	if name := "cali-fw-" + hostName("0123456789abcdef", "eth0"); len(name) > 28 {
		t.Errorf("%s has %d characters", name, len(name))
	}
}
