"""Small programs that `spiderpoolctl` runs inside pods."""
