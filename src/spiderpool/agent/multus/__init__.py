"""The meta plugin: several networks for one pod, by other CNI plugins."""
