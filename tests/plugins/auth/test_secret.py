import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.auth import secret


def test_a_key_has_the_form_that_scanners_look_for() -> None:
    for _ in range(50):
        key = secret.new()
        assert re.fullmatch(r"weir_sk_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", key)
        assert secret.well_formed(key.encode())


def test_no_two_are_the_same() -> None:
    assert len({secret.new() for _ in range(1000)}) == 1000
    assert len({secret.new_id() for _ in range(1000)}) == 1000


def test_an_id_is_not_a_key() -> None:
    assert re.fullmatch(r"key_[0-9A-Za-z]{12}", secret.new_id())


def test_every_bit_is_random() -> None:
    # Of 400 keys each bit of the number is set in about half.
    digits = {digit: value for value, digit in enumerate(secret._DIGITS)}
    numbers = []
    for _ in range(400):
        number = 0
        for digit in secret.new()[8:51]:
            number = number * 62 + digits[digit]
        assert number < 2**256
        numbers.append(number)
    for bit in range(256):
        assert 100 < sum(number >> bit & 1 for number in numbers) < 300


def test_the_checksum_is_the_crc_of_what_stands_before_it() -> None:
    key = secret.new()
    digits = {digit: value for value, digit in enumerate(secret._DIGITS)}
    said = 0
    for digit in key[-6:]:
        said = said * 62 + digits[digit]
    assert said == zlib.crc32(key[:-7].encode())


@given(st.integers(0, 57), st.sampled_from(secret._DIGITS + "-_ ."))
def test_one_wrong_character_shows(at: int, other: str) -> None:
    key = secret.new()
    mistyped = key[:at] + other + key[at + 1 :]
    assert secret.well_formed(mistyped.encode()) is (mistyped == key)


@pytest.mark.parametrize("text", [b"", b"weir_sk_", b"sk-0123456789", b"\xff" * 58, b"weir_sk_" + b"0" * 50])
def test_other_text_is_no_key(text: bytes) -> None:
    assert not secret.well_formed(text)


def test_longer_and_shorter_are_none() -> None:
    key = secret.new().encode()
    assert not secret.well_formed(key + b"0")
    assert not secret.well_formed(key[:-1])
