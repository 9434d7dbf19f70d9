"""`python -m blixt.demo`."""

import sys

from blixt.demo.main import main

sys.exit(main())
