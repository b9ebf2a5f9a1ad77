"""``python -m lrbench.cli``."""

import os
import sys

# Python puts the working folder first: a ``random.py`` that lies there is not Python's.
sys.path[:] = [place for place in sys.path if os.path.realpath(place) != os.path.realpath(os.getcwd())]

from lrbench.cli import main  # noqa: E402

sys.exit(main())
