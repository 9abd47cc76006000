"""`python -m metarl COMMAND ...`: the command line, which lies in the room above; see `experiments.cli.main`."""

import sys

from metarl.registry import load_target

if __name__ == "__main__":
    main = load_target("metarl.experiments.cli.main:main", "command", ours=True)
    sys.exit(main(sys.argv[1:]))  # these words given: the current folder is on the path already
