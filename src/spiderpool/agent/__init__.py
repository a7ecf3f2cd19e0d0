"""The node's side: CNI calls in, addresses out."""
