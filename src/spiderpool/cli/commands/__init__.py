"""The commands of `spiderpoolctl`, one module each."""
