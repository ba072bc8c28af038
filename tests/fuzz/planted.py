"""A target with a bug that chance does not find: it shows that being guided by coverage works."""


def target(data: bytes) -> None:
    """Fails on one in four thousand million inputs; each byte that is right goes one branch further."""
    if data[:1] == b"W" and data[1:2] == b"e" and data[2:3] == b"i":
        assert data[3:4] != b"r", "found"
