"""The official SDK against the demo upstream, directly and through the real command: the results are equal.

The demo gives the same bytes for the same requests. Two of them run: one behind Weir, one for the direct
client. Both get the same requests in the same order, so that even what they remember is equal.
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}.twins", f"{__name__}.command")
