"""Background tasks of the agent: SpiderEndpoints, leak checks, restore of lost records."""
