"""`python -m` of this package runs the node."""

import sys

from .node import main

sys.exit(main())
