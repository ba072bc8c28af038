"""Keys from a folder, as it is while Kubernetes swaps it."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from plugins.auth.folder import LARGEST, Folder
from plugins.auth.keys import Key


def users(keys: dict[bytes, Key] | None) -> list[str]:
    assert keys is not None
    return sorted(key.user for key in keys.values())


def test_a_file_is_a_user_and_its_text_the_key(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("weir-0123456789\n")
    keys = Folder(tmp_path).look()
    assert keys is not None
    (key,) = keys.values()
    assert (key.user, key.id, key.team) == ("alice", "alice", None)
    assert key.digest == hashlib.sha256(b"weir-0123456789").digest()


def test_a_file_may_say_more_in_json(tmp_path: Path) -> None:
    said = {"key": "weir-0123456789", "team": "red", "models": ["gpt-4o"], "limits": [{"in_flight": 2}]}
    (tmp_path / "alice").write_bytes(orjson.dumps(said))
    (tmp_path / "other").write_bytes(orjson.dumps({"key": "weir-9876543210", "user": "bob", "id": "k9"}))
    keys = {key.user: key for key in (Folder(tmp_path).look() or {}).values()}
    assert (keys["alice"].team, keys["alice"].models) == ("red", ("gpt-4o",))
    assert keys["alice"].limits == ({"in_flight": 2},)
    assert (keys["bob"].id, keys["bob"].team) == ("k9", None)


def test_nothing_changes_and_nothing_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("weir-0123456789")
    folder = Folder(tmp_path)
    assert users(folder.look()) == ["alice"]
    assert folder.look() is None
    (tmp_path / "bob").write_text("weir-9876543210")
    assert users(folder.look()) == ["alice", "bob"]
    (tmp_path / "alice").unlink()
    assert users(folder.look()) == ["bob"]
    (tmp_path / "bob").write_text("weir-another-key")
    assert users(folder.look()) == ["bob"]
    assert folder.look() is None


def mount(folder: Path, version: str, keys: dict[str, str]) -> None:
    """As the kubelet does it: a new folder, then one link that is moved into place."""
    data = folder / f"..{version}"
    data.mkdir()
    for name, key in keys.items():
        (data / name).write_text(key)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(data.name)
    os.rename(folder / "..data_tmp", folder / "..data")
    for entry in folder.iterdir():
        if entry.is_symlink() and not entry.exists():
            entry.unlink()


def test_a_secret_of_kubernetes_is_read_through_its_links(tmp_path: Path) -> None:
    mount(tmp_path, "1", {"alice": "weir-0123456789"})
    folder = Folder(tmp_path)
    assert users(folder.look()) == ["alice"]
    assert folder.look() is None
    mount(tmp_path, "2", {"alice": "weir-changed-key", "bob": "weir-9876543210"})
    keys = folder.look()
    assert users(keys) == ["alice", "bob"]
    assert hashlib.sha256(b"weir-changed-key").digest() in (keys or {})
    mount(tmp_path, "3", {"bob": "weir-9876543210"})
    assert users(folder.look()) == ["bob"]


def test_a_swap_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount(tmp_path, "1", {"alice": "weir-0123456789"})
    folder = Folder(tmp_path)
    read = Folder.keys

    def slowly(self: Folder) -> dict[bytes, Key]:
        found = read(self)
        mount(tmp_path, "2", {"alice": "weir-changed-key"})
        return found

    monkeypatch.setattr(Folder, "keys", slowly)
    folder.look()
    monkeypatch.undo()
    assert hashlib.sha256(b"weir-changed-key").digest() in (folder.look() or {})
    assert folder.look() is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"short", "a key has at least 8 characters"),
        (b"", "key is a line of text"),
        (b"\xff\xfe secret-key", "is not text"),
        (b"two lines\nof a key", "line of text"),
        (b"{not json, secret-key", "begins like JSON and is none"),
        (b'{"key": "weir-secret-key", "kye": 1}', "unknown key 'kye'"),
        (b'{"key": "weir-secret-key", "user": 7}', "user is a line of text"),
        (b"x" * (LARGEST + 1), "is larger than"),
    ],
)
def test_a_file_that_will_not_do_is_left_out_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, says: str
) -> None:
    (tmp_path / "alice").write_text("weir-0123456789")
    (tmp_path / "broken").write_bytes(content)
    folder = Folder(tmp_path)
    assert users(folder.look()) == ["alice"]
    fields: Any = [record.__dict__["fields"] for record in caplog.records]
    assert len(fields) == 1
    assert says in fields[0]["problem"]
    assert fields[0]["problem"].startswith("broken")
    assert "secret-key" not in str(fields)
    (tmp_path / "bob").write_text("weir-9876543210")
    assert users(folder.look()) == ["alice", "bob"]
    assert len(caplog.records) == 1


def test_two_files_with_one_key_are_one_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "alice").write_text("weir-0123456789")
    (tmp_path / "bob").write_text("weir-0123456789")
    assert users(Folder(tmp_path).look()) == ["alice"]
    assert caplog.records[0].levelno == logging.ERROR


def test_folders_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / ".hidden").write_text("weir-0123456789")
    assert Folder(tmp_path).look() == {}


def test_a_folder_that_is_not_there_stops_the_start_and_later_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "keys")
    with pytest.raises(ValueError, match=r"keys_dir: .*keys cannot be read: No such file or directory"):
        folder.look()
    (tmp_path / "keys").mkdir()
    assert folder.look() == {}
    (tmp_path / "keys").rmdir()
    with pytest.raises(OSError, match="No such file"):
        folder.look()
