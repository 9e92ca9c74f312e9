"""`python -m pytest_claims`: what can be done beside running pytest."""

import sys

from pytest_claims.commands.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
