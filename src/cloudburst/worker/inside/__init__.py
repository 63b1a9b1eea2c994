"""What runs in the payload's own interpreter: the executor, and the foreground run of ``cloudburst replay``.

That interpreter knows nothing of CloudBurst and may be Python 3.8. So what is in here needs the standard
library only, and imports nothing of CloudBurst but its neighbours. There it is a package by a name that no
payload has (see ``__main__``). The worker imports ``frames``, by which the two talk.
"""

import os

START = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
"""The file that the payload's interpreter is started with."""
