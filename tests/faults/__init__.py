"""The bench for faults: both ends of a conversation on raw sockets, the real command between them.

Nothing here knows Weir's code. Every byte is written and read as it is on the wire, every framing error is
an AssertionError, and every wait has an end.
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}.stage")  # what it asserts is told as a test's own would be
