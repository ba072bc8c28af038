"""Requests made to be read as one by Weir and as two behind it, in some thousand forms (C8).

Every way to write a length meets every way to write a transfer coding and every way to end a body, in both
orders. The upstream of the bench reads by the letter of RFC 9112, and fails on anything that could be read
in two ways. Each form has paths of its own: what the upstream gets is what the log says was sent, no more.
"""

import asyncio
import itertools
import os
import random
from collections import Counter

import pytest

from .stage import OK, Stage
from .upstream import answer

LENGTHS = {
    "none": b"",
    "short": b"Content-Length: 5\r\n",
    "whole": b"Content-Length: %(whole)d\r\n",
    "zero": b"Content-Length: 0\r\n",
    "plus": b"Content-Length: +5\r\n",
    "twice": b"Content-Length: 5\r\nContent-Length: %(whole)d\r\n",
    "list": b"Content-Length: 5, %(whole)d\r\n",
    "blank before the colon": b"Content-Length : 5\r\n",
    "folded": b"Content-Length:\r\n 5\r\n",
    "underscore": b"Content_Length: 5\r\n",
    "behind a bare LF": b"X: y\nContent-Length: 5\r\n",
    "hexadecimal": b"Content-Length: 0x5\r\n",
    "a tab behind": b"Content-Length: 5\t\r\n",
}
CODINGS = {
    "none": b"",
    "plain": b"Transfer-Encoding: chunked\r\n",
    "capitals": b"TRANSFER-ENCODING: CHUNKED\r\n",
    "blank before the name": b" Transfer-Encoding: chunked\r\n",
    "blank before the colon": b"Transfer-Encoding : chunked\r\n",
    "tab": b"Transfer-Encoding:\tchunked\r\n",
    "vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "NUL": b"Transfer-Encoding: chunked\0\r\n",
    "folded": b"Transfer-Encoding:\r\n chunked\r\n",
    "folded behind": b"Transfer-Encoding: chunked\r\n x\r\n",
    "behind a bare LF": b"X: y\nTransfer-Encoding: chunked\r\n",
    "behind a bare CR": b"X: y\rTransfer-Encoding: chunked\r\n",
    "ended by a bare LF": b"Transfer-Encoding: chunked\n",
    "another": b"Transfer-Encoding: xchunked\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "gzip before": b"Transfer-Encoding: gzip, chunked\r\n",
    "gzip behind": b"Transfer-Encoding: chunked, gzip\r\n",
    "comma": b"Transfer-Encoding: ,chunked\r\n",
    "quoted": b'Transfer-Encoding: "chunked"\r\n',
    "parameter": b"Transfer-Encoding: chunked;q=1\r\n",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "and another": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
    "underscore": b"Transfer_Encoding: chunked\r\n",
    "content coding": b"Content-Encoding: chunked\r\n",
    "hidden by connection": b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
    "expected": b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
}
ENDS = {
    "at once": b"0\r\n\r\n",
    "after a chunk": b"5\r\nabcde\r\n0\r\n\r\n",
    "bare LF": b"0\n\n",
    "bare LF behind the size": b"0\n\r\n",
    "extension": b"0;x=y\r\n\r\n",
    "extension with a bare LF": b"0;x\n\r\n\r\n",
    "trailer": b"0\r\nX: y\r\n\r\n",
    "trailer with a length": b"0\r\nContent-Length: 50\r\n\r\n",
    "many zeros": b"0000\r\n\r\n",
    "too long a chunk": b"1\r\nabcde\r\n0\r\n\r\n",
    "too short a chunk": b"6\r\nabcde\r\n0\r\n\r\n",
    "no end": b"0\r\n",
    "hexadecimal mark": b"0x0\r\n\r\n",
    "minus": b"-0\r\n\r\n",
    "blank": b" 0\r\n\r\n",
    "beyond 64 bits": b"10000000000000000\r\n\r\n0\r\n\r\n",
    "plain": b"abcde",
}
FORMS = list(itertools.product(LENGTHS, CODINGS, ENDS, (True, False)))
TRIED = len(FORMS) if os.environ.get("WEIR_SOAK") else 3000


def payload(number: int, form: tuple[str, str, str, bool]) -> bytes:
    """One form: POST /v1/a/N, and behind its body a GET of /v1/b/N."""
    length, coding, end, length_first = form
    smuggled = b"GET /v1/b/%d HTTP/1.1\r\nHost: x\r\n\r\n" % number
    body = ENDS[end] + smuggled
    lines = LENGTHS[length].replace(b"%(whole)d", b"%d" % len(body))
    lines = lines + CODINGS[coding] if length_first else CODINGS[coding] + lines
    return b"POST /v1/a/%d HTTP/1.1\r\nHost: x\r\n%b\r\n%b" % (number, lines, body)


@pytest.mark.fault("C8")
async def test_no_form_of_a_request_becomes_more_requests_upstream_than_the_log_has(stage: Stage) -> None:
    async def try_one(number: int, form: tuple[str, str, str, bool]) -> None:
        async with room, stage.client() as c:
            try:
                await c.send(payload(number, form))
                await c.read_until_paused(0.1)
            except ConnectionError:
                pass
            c.reset()  # what is not whole never will be

    forms = random.Random(8).sample(FORMS, TRIED)
    room = asyncio.Semaphore(30)
    async with stage.plant(answer(OK)) as up:
        await asyncio.gather(*(try_one(number, form) for number, form in enumerate(forms)))
    await stage.at_rest()
    lines = [line for line in stage.lines if str(line.get("path")).startswith(("/v1/a/", "/v1/b/"))]
    logged = Counter(line["path"].encode() for line in lines if line["attempts"])
    came = Counter(asked.target for asked in up.requests)
    assert came - logged == Counter()
    # A smuggled request came alone only where it was one, by RFC 9112: with a log line, as any other.
    assert max(came.values()) == 1
    for asked in up.requests:
        if asked.ended in ("length", "chunked"):
            assert asked.target.startswith((b"/v1/a/", b"/v1/b/"))
    # And the forms were worth their while: some passed, some were refused, and some were two requests.
    assert len([path for path in came if path.startswith(b"/v1/b/")]) > TRIED / 200
    assert sum(line["status"] in (400, 501) for line in stage.lines if "status" in line) > TRIED / 2


CLEAR = {
    ("none", "plain", "at once"): [b"/v1/a/0", b"/v1/b/0"],
    ("zero", "none", "at once"): [b"/v1/a/0"],  # and then rubbish
    ("whole", "none", "at once"): [b"/v1/a/0"],
    ("short", "none", "plain"): [b"/v1/a/0", b"/v1/b/0"],
    ("none", "capitals", "trailer"): [b"/v1/a/0", b"/v1/b/0"],
    ("short", "underscore", "plain"): [b"/v1/a/0", b"/v1/b/0"],
    ("short", "plain", "at once"): [],
    ("none", "another", "at once"): [],
    ("none", "plain", "bare LF"): [],
    ("twice", "none", "plain"): [],
}


@pytest.mark.fault("C8")
@pytest.mark.parametrize(("form", "targets"), CLEAR.items(), ids=lambda value: "-".join(map(str, value)))
async def test_what_some_forms_are(stage: Stage, form: tuple[str, str, str], targets: list[bytes]) -> None:
    """By the letter: so that all is not refused, and all is not passed."""
    async with stage.plant(answer(OK)) as up, stage.client() as c:
        await c.send(payload(0, (*form, True)))
        await c.read_until_paused(0.2)
        c.reset()
        whole = [asked.target for asked in up.requests if asked.ended in ("length", "chunked")]
        assert whole == targets
