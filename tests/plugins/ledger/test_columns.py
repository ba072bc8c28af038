from pathlib import Path

from plugins.ledger.columns import COLUMNS, KEPT, OWN_FIRST, TOKENS
from proxy.api import Usage


def test_every_column_is_there_once() -> None:
    assert len(COLUMNS) == len(set(COLUMNS)) == len(KEPT) == 43
    assert set(KEPT) == set(COLUMNS)


def test_a_row_begins_with_its_id() -> None:
    assert OWN_FIRST[0] == COLUMNS[0] == KEPT[0] == "id"


def test_every_kind_of_tokens_of_a_usage_has_a_column() -> None:
    parts_of_parts = {"cached_audio_tokens", "cached_image_tokens", "cache_write_12h_tokens"}
    kinds = {name for name in Usage.__dataclass_fields__ if name.endswith("_tokens")}
    assert kinds - parts_of_parts == set(TOKENS)


def test_every_column_is_documented() -> None:
    page = Path(__file__).parents[3] / "docs" / "ledger.md"
    text = page.read_text()
    assert [name for name in COLUMNS if f"`{name}`" not in text] == []
