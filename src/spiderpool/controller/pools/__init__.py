"""Reconcilers of SpiderIPPools: status, deletion, usage Events, import of former allocations."""
