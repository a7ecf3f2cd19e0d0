"""The cluster's side: webhooks, projections, reclaim."""
