"""What a key of Weir's own making looks like: `weir_sk_`, 43 characters, `_`, 6 characters.

The 43 are 256 random bits in base 62, the 6 the CRC-32 of all before the last `_`, in base 62 as well. The
prefix and the checksum let a scanner of secrets tell a key from other text without asking anybody.
"""

import secrets
import string
import zlib

PREFIX = "weir_sk_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM = 43
"""Characters for 256 bits: 62 ** 43 is just above 2 ** 256."""
_CHECK = 6
_LENGTH = len(PREFIX) + _RANDOM + 1 + _CHECK


def new() -> str:
    """A new key."""
    text = PREFIX + _base62(int.from_bytes(secrets.token_bytes(32)), _RANDOM)
    return f"{text}_{_checksum(text.encode())}"


def new_id() -> str:
    """A name for a new key: it tells nothing of the key itself."""
    return "key_" + _base62(secrets.randbits(71), 12)


def well_formed(presented: bytes) -> bool:
    """Whether this is a key that Weir may have made: one that nobody can have guessed."""
    return (
        len(presented) == _LENGTH
        and presented.startswith(PREFIX.encode())
        and presented[-_CHECK - 1 :] == b"_" + _checksum(presented[: -_CHECK - 1]).encode()
    )


def _checksum(text: bytes) -> str:
    return _base62(zlib.crc32(text), _CHECK)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
