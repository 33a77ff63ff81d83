"""`python -m narrows`, and `torchrun -m narrows` for several processes."""

import sys

from narrows.cli import main

sys.exit(main())
