"""SpiderIPs as the agent uses them: claims, hand-over, occupancy of pools, resting addresses."""
