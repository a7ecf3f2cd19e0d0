"""
`spiderpoolctl connectivity`.

Tries the matrix of pods of several CNIs on a cluster, and explains what fails.
"""
