"""The IPAM plugin: ADD, DEL and CHECK of addresses."""
