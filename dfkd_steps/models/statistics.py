"""By which BatchNorm statistics a teacher answers."""

RUNNING = "running"  # those that it keeps, of its training data
CURRENT = "current"  # those of the batch itself
FEWEST = 32  # images that they may be computed over
