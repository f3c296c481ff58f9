"""The command line as `python -m trim`."""

import sys

from trim.cli import main

if __name__ == "__main__":
    sys.exit(main())
