"""`python -m compression`: state dicts packed, unpacked, inspected and compared from the command line."""

import sys

from compression.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
