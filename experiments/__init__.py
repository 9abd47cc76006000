"""The mains: the command line and the loop behind `metarl.train`. Imports everything, when asked to."""

import sys

# `python -m experiments`, from the root of a checkout, is the one use of the bare name: it imports `__main__` alone.
if __name__ != "metarl.experiments" and sys.argv[0] != "-m":
    raise ImportError(f"{__name__!r} is a folder of metarl's checkout; its import name is metarl.experiments")
