"""`python -m flowhook`."""

import sys

from flowhook.cli import main

sys.exit(main())
