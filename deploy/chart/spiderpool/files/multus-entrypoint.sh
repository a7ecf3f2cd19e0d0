#!/bin/sh
# Writes what Multus needs on a node: its kubeconfig, anew when the token or the CA changes, and its CNI configuration.
set -eu
account=${SERVICE_ACCOUNT_DIR:-/var/run/secrets/kubernetes.io/serviceaccount}
folder=$CNI_CONF_DIR/multus.d
kubeconfig=$folder/multus.kubeconfig
conf=$CNI_CONF_DIR/00-multus.conf

write_kubeconfig() {
  case $KUBERNETES_SERVICE_HOST in
    *:*) host="[$KUBERNETES_SERVICE_HOST]" ;;
    *) host=$KUBERNETES_SERVICE_HOST ;;
  esac
  mkdir -p "$folder"
  umask 077
  cat >"$kubeconfig.new" <<KUBECONFIG
apiVersion: v1
kind: Config
clusters:
  - name: local
    cluster:
      server: https://$host:$KUBERNETES_SERVICE_PORT
      certificate-authority-data: $(base64 <"$account/ca.crt" | tr -d '\n')
users:
  - name: multus
    user:
      token: $(cat "$account/token")
contexts:
  - name: multus-context
    context:
      cluster: local
      user: multus
      namespace: $MULTUS_NAMESPACE
current-context: multus-context
KUBECONFIG
  mv "$kubeconfig.new" "$kubeconfig"
}

# The name of the first CNI configuration that is not Multus' own.
default_network() {
  for file in "$CNI_CONF_DIR"/*; do
    case $file in
      *multus*) ;;
      *.conf | *.conflist | *.json)
        python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["name"])' "$file"
        return
        ;;
    esac
  done
}

write_conf() {
  cat >"$conf.new" <<CONF
{
  "cniVersion": "0.3.1",
  "name": "multus-cni-network",
  "type": "multus",
  "confDir": "$CNI_CONF_DIR/",
  "logLevel": "$LOG_LEVEL",
  "logFile": "$LOG_FILE",
  "capabilities": {"portMappings": true, "bandwidth": true},
  "namespaceIsolation": $NAMESPACE_ISOLATION,
  "globalNamespaces": "$GLOBAL_NAMESPACES",
  "clusterNetwork": "$1",
  "defaultNetworks": [],
  "multusNamespace": "$MULTUS_NAMESPACE",
  "systemNamespaces": [],
  "kubeconfig": "$kubeconfig"
}
CONF
  # Also when only the settings changed; the runtime reads the folder anew for a file that is.
  if cmp -s "$conf.new" "$conf"; then rm "$conf.new"; else mv "$conf.new" "$conf"; fi
}

network=$CLUSTER_NETWORK
while [ -z "$network" ]; do
  network=$(default_network)
  [ -n "$network" ] || { echo "multus: no CNI configuration in $CNI_CONF_DIR yet, and no default network is set; waiting"; sleep 5; }
done
old=
while :; do
  new=$(cat "$account/token" "$account/ca.crt" | md5sum)
  if [ "$new" != "$old" ]; then
    write_kubeconfig
    old=$new
  fi
  write_conf "$network"
  sleep 10
done
