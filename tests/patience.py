"""How long tests wait for other processes."""

PATIENCE_S = 300
"""Several times the longest wait seen on a busy machine of two cores (100 s): only what never happens exceeds it."""
