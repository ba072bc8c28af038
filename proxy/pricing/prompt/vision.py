"""What a picture is in tokens, by the rules that OpenAI's guide gives its models.

Some cut a picture into tiles, some into patches. Where its size is not known it counts for the most that the
model makes of one.
"""

from typing import NamedTuple, Protocol

Size = tuple[int, int]
"""Width and height in pixels."""

UNBOUNDED = 10_000
"""Patches of a picture of unknown size, where a model takes any: the largest budget that was ever named."""
MOST = 2**31 - 1
"""Tokens of one picture, whatever its header says."""
_TILE = 512
_PATCH = 32
_BOX = 2048


class Vision(Protocol):
    """How a model counts pictures."""

    def tokens(self, size: Size, detail: object) -> int:
        """A picture of this size; `detail` is the request's, of whatever type."""

    def most(self, detail: object) -> int:
        """Any picture."""


class Tiles(NamedTuple):
    """Fitted into 2048x2048, then its shorter side into `side`; each tile of 512x512 has `tile` tokens."""

    base: int
    tile: int
    side: int = 768

    def tokens(self, size: Size, detail: object) -> int:
        """See `Vision.tokens`. In low detail there are no tiles."""
        if detail == "low":
            return self.base
        width, height = _fitted(size, max(size), _BOX)
        width, height = _fitted((width, height), min(width, height), self.side)
        return self.base + self.tile * -(-width // _TILE) * -(-height // _TILE)

    def most(self, detail: object) -> int:
        """See `Vision.most`."""
        return self.tokens((self.side, _BOX), detail)


class Limit(NamedTuple):
    """So many patches, after the longer side was fitted into so many pixels; None: as many as there are."""

    patches: int | None
    side: int | None


SMALL = Limit(1536, 2048)
HIGH = Limit(2500, 2048)
ORIGINAL = Limit(10_000, 6000)
NONE = Limit(None, None)


class Patches(NamedTuple):
    """Patches of 32x32, at so many percent of a token each. In low detail nobody says what it is: as high."""

    percent: int
    high: Limit = SMALL
    auto: Limit = SMALL
    original: Limit = SMALL

    def tokens(self, size: Size, detail: object) -> int:
        """See `Vision.tokens`."""
        most, side = self._limit(detail)
        if side is not None:
            size = _fitted(size, max(size), side)
        patches = _patches(*size)
        if most is not None and patches > most:
            patches = min(most, _patches(*_shrunk(size, most)))
        return min(MOST, -(-patches * self.percent // 100))

    def most(self, detail: object) -> int:
        """See `Vision.most`."""
        patches = self._limit(detail).patches
        return -(-(UNBOUNDED if patches is None else patches) * self.percent // 100)

    def _limit(self, detail: object) -> Limit:
        if detail == "original":
            return self.original
        return self.high if detail == "high" or detail == "low" else self.auto


def _fitted(size: Size, length: int, most: int) -> Size:
    """A size of which the side of this length is shrunk to what it may be at most; never below a pixel."""
    if length <= most:
        return size
    return max(1, size[0] * most // length), max(1, size[1] * most // length)


def _patches(width: int, height: int) -> int:
    return -(-width // _PATCH) * -(-height // _PATCH)


def _shrunk(size: Size, most: int) -> Size:
    """Shrunk to so many patches, then a little more, until one side is whole patches."""
    width, height = size
    ratio = (_PATCH * _PATCH * most / (width * height)) ** 0.5
    across, down = width * ratio / _PATCH, height * ratio / _PATCH
    ratio *= min(max(1, int(across)) / across, max(1, int(down)) / down)
    return max(1, int(width * ratio + _ROUNDED)), max(1, int(height * ratio + _ROUNDED))


_ROUNDED = 1e-6
"""Of a pixel: what floats may be short of the whole patches that were meant."""
