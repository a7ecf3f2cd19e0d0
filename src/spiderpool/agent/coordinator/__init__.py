"""The coordinator plugin: routes between a pod's NICs and its node, conflict detection, ifacer."""
