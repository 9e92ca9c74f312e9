"""`python -m experiments`: what can be done beside running pytest."""

import sys

from experiments.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
