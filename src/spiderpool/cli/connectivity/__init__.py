"""`spiderpoolctl connectivity`: tries the matrix of pods of several CNIs on a cluster, and explains what fails."""
