"""The bodies of the agent's HTTP API, as agent, executable and `spiderpoolctl` exchange them."""
