"""`python -m experiments COMMAND ...` from the root of a checkout; see `cli.main`."""

import sys

from metarl.experiments.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))  # these words given: the current folder is on the path already
