#!/usr/bin/env bash
# Several CNIs in one cluster, in the running lab: the matrix of who reaches whom, before and after the one thing to set on the nodes.
# Repeatable; leaves nodes and cluster as it found them.
source "$(dirname "$0")/tour-common.sh"

nodes=$(kubectl get nodes -o 'jsonpath={.items[*].metadata.name}')
switch=net.netfilter.nf_conntrack_tcp_be_liberal

pattern='-A (KUBE-)?FORWARD .*--ctstate INVALID'

rule() { # is kube-proxy's rule against INVALID packets on a node
  spiderlab exec "$1" -- sh -c "iptables-save -t filter; ip6tables-save -t filter" | grep -E -- "$pattern" | sort -u || true
}
check() { # the same on all nodes
  printf '$ iptables-save -t filter | grep -E -- "%s"      # on every node\n' "$pattern"
  for node in $nodes; do
    found=$(rule "$node")
    printf '%s: %s\n' "$node" "${found:-no such rule}"
  done
}
set_switch() { # value: on every node, and kube-proxy anew where its rule does not fit
  for node in $nodes; do
    spiderlab exec "$node" -- sysctl -qw "$switch=$1"
    spiderlab kube-proxy restart "$node"
  done
  for _ in $(seq 100); do
    here=0
    for node in $nodes; do if [[ -n $(rule "$node") ]]; then here=$((here + 1)); fi; done
    if [[ $1 == 1 && $here == 0 || $1 == 0 && $here == $(wc -w <<<"$nodes") ]]; then return; fi
    sleep 0.2
  done
  echo "kube-proxy did not follow $switch=$1 within 20 s; see: spiderlab logs kube-proxy-node1" >&2
  return 1
}
undo() {
  kubectl delete --ignore-not-found -f deploy/lab/coexistence.yaml >/dev/null
  set_switch 0
}
trap undo EXIT

title 'A macvlan network whose pods also get a coordinator: routes to node, Services and overlay'
run kubectl apply -f deploy/lab/coexistence.yaml

title 'kube-proxy as it is installed: it drops packets whose connection it saw only half of'
set_switch 0
check

title 'Who reaches whom, on one node and between two'
matrix=(spiderpoolctl connectivity --nodes node1,node2 --network kube-system/macvlan-coexistence)
if [[ $(kubectl get spiderippools -o name) == *ens192-v6* ]]; then pools=(--pool ens192-v4 --pool ens192-v6); else pools=(--pool ens192-v4); fi
run "${matrix[@]}" "${pools[@]}" || [[ $? == 1 ]] # some cases fail; 2 would be: could not run

title 'The remedy: one setting on every node, then kube-proxy anew'
printf '$ sysctl -w %s=1      # on every node, then restart kube-proxy\n' "$switch"
set_switch 1
check

title 'The same again'
run "${matrix[@]}" "${pools[@]}"

printf '\nThe tour took %d s; nodes and cluster are as before.\n' "$((SECONDS - started))"
