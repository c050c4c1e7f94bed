"""The most memory that this process, or one that it forked, has held."""

import resource


def peak_memory() -> int:
    """kB; HDF5 reads in a process of its own."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
