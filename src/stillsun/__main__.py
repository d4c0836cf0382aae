"""`python -m stillsun` is the command `stillsun`."""

import sys

from stillsun.cli import main

if __name__ == "__main__":
    sys.exit(main())
