#!/usr/bin/env bash
# Fixed addresses that follow the application, in the running lab: each command is shown, then run. Repeatable; ends with
# everything as it was, but for the Deployment of deploy/lab/demo.yaml, whose pools are not there meanwhile.
source "$(dirname "$0")/tour-common.sh"

pools() { kubectl get spiderippool --output name -l ipam.spidernet.io/owner-application-name=test-app; }
column() { # pool, field of its status
  kubectl get "$1" -o "jsonpath={.status.$2}"
}
wait_for() { # a sentence, then a command that succeeds in the end
  local what=$1 left=300
  shift
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [[ $left -gt 0 ]] || { printf 'tour: still not so: %s\n' "$what" >&2; exit 1; }
    sleep 0.2
  done
}
show() { # both pools have so many addresses, and so many are held
  local pool count=0
  for pool in $(pools); do
    [[ $(column "$pool" totalIPCount) = "$1" && $(column "$pool" allocatedIPCount) = "$2" ]] || return 1
    count=$((count + 1))
  done
  [[ $count = 2 ]]
}
none_left() { [[ -z $(pools) ]]; }
all_back() { [[ $(kubectl get spidersubnet -o 'jsonpath={.items[*].status.allocatedIPCount}') = '0 0' ]]; }
restore() {
  {
    kubectl delete --ignore-not-found deployment test-app --cascade=foreground
    kubectl delete --ignore-not-found -f deploy/lab/fixed-ips/subnets.yaml -f deploy/lab/fixed-ips/networks.yaml
    kubectl apply -f deploy/lab/pools.yaml
  } >/dev/null 2>&1 || true
}
trap restore EXIT

# A subnet must have all addresses of the pools of its CIDR: the lab's own ones make room.
kubectl delete --ignore-not-found -f deploy/lab/demo.yaml --cascade=foreground >/dev/null
kubectl delete --ignore-not-found -f deploy/lab/pools.yaml >/dev/null

title 'Two subnets with ten addresses each, one for each underlay network'
run kubectl apply -f deploy/lab/fixed-ips/subnets.yaml
wait_for 'the subnets show their addresses' all_back
run kubectl get spidersubnet

title 'The underlays as networks, with the coordinator'
run kubectl apply -f deploy/lab/fixed-ips/networks.yaml
wait_for 'both networks have their definition' kubectl get network-attachment-definitions.k8s.cni.cncf.io \
  macvlan-conf-ens192 macvlan-conf-ens224
run kubectl get network-attachment-definitions.k8s.cni.cncf.io

title 'An application of two pods with two interfaces; its template names the subnets'
run cat deploy/lab/fixed-ips/test-app.yaml
run kubectl apply -f deploy/lab/fixed-ips/test-app.yaml
run kubectl rollout status deployment/test-app --timeout=90s
wait_for 'both pools have 3 addresses, 2 of them held' show 3 2

title 'It has pools of its own: replicas + 1'
run kubectl get spiderippool
for pool in $(pools); do
  run kubectl get "$pool" -o 'jsonpath={.spec.ips}{"\n"}'
done
run kubectl get spidersubnet
run kubectl get po -l app=test-app -o wide
pod=$(kubectl get po -l app=test-app -o 'jsonpath={.items[0].metadata.name}')
run kubectl exec "$pod" -- ip a

title 'What comes in on net1 goes out on net1'
run kubectl exec "$pod" -- ip rule show
run kubectl exec "$pod" -- ip r show main
run kubectl exec "$pod" -- ip route show table 101

title 'Pods that are made anew stay inside'
run kubectl delete po -l app=test-app
run kubectl rollout status deployment/test-app --timeout=90s
run kubectl get po -l app=test-app -o wide

title 'The pools follow the replicas'
run kubectl scale deployment test-app --replicas 3
run kubectl rollout status deployment/test-app --timeout=90s
wait_for 'both pools have 4 addresses, 3 of them held' show 4 3
run kubectl get po -l app=test-app -o wide
run kubectl get spiderippool
run kubectl scale deployment test-app --replicas 2
wait_for 'both pools have 3 addresses, 2 of them held' show 3 2
run kubectl get spiderippool

title 'Who owns which address'
run kubectl get sip

title 'With the application its pools go, and the subnets have all their addresses back'
run kubectl delete deployment test-app
wait_for 'the pools are gone' none_left
wait_for 'the subnets have all their addresses back' all_back
run kubectl get spiderippool -l ipam.spidernet.io/owner-application-name=test-app
run kubectl get spidersubnet

printf '\nThe tour took %d s.\n' "$((SECONDS - started))"
