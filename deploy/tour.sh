#!/usr/bin/env bash
# A walk through the running lab: each command is shown, then run. Repeatable; leaves the pods of deploy/lab/demo.yaml running.
source "$(dirname "$0")/tour-common.sh"

ask() { # a web server's answer: the name of the pod behind the address
  printf '$ echo "GET /name" | %s\n' "$*"
  printf 'GET /name HTTP/1.0\r\n\r\n' | "$@" | tail -n 1
}
first_of() { kubectl get pods -l app=demo -o "jsonpath={.items[$1].metadata.name}"; }
address() { # pod, interface, family: the address that the pod's record shows
  kubectl get sip -o json | python3 -c "
import json, sys
for ip in json.load(sys.stdin)['items']:
    spec = ip['spec']
    if (spec['holder'].get('name'), spec['holder'].get('nic'), spec['family']) == ('$1', '$2', $3):
        print(spec['ip'])"
}

title 'A Kubernetes of three nodes, with two underlay networks besides the node network'
run kubectl get nodes

title 'Pools of addresses, one a network and family'
run kubectl get spiderippools

title 'Three pods that ask for an address on eth0 and one on net1'
run kubectl apply -f deploy/lab/demo.yaml
run kubectl rollout status deployment/demo --timeout=90s
run kubectl get pods -l app=demo -o wide

title 'Who owns which address'
run kubectl get sip

one=$(first_of 0) two=$(first_of 1)
title 'What a pod sees'
run kubectl exec "$one" -- ip addr
run kubectl exec "$one" -- ip route

title 'From pod to pod on another node, over both networks and both families'
for nic in eth0 net1; do
  ask kubectl exec -i "$one" -- nc -w 5 "$(address "$two" "$nic" 4)" 80
  ask kubectl exec -i "$one" -- nc -w 5 "$(address "$two" "$nic" 6)" 80
done

title 'From a client outside the cluster, through the router of the underlay'
ask ip netns exec sl-client busybox nc -w 5 "$(address "$two" eth0 4)" 80

printf '\nThe tour took %d s. Remove the lab with: make lab-down\n' "$((SECONDS - started))"
