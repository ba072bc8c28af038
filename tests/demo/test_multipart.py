"""The demo's multipart parser, on bodies cut anywhere."""

import pytest

from proxy.demo.errors import ApiError
from proxy.demo.multipart import Multipart, Part

FORM = (
    b'preamble\r\n--X-y\r\nContent-Disposition: form-data; name="a"\r\n\r\nvalue\r\n'
    b'--X-y \r\ncontent-disposition: form-data; filename="q\\"%22.bin"; name="f"\r\nContent-Type: x/y\r\n\r\n'
    b"\r\n--X-\r\n--X\r\n\r\n"
    b"\r\n--X-y\r\nContent-Disposition: form-data; name=bare\r\n\r\n\r\n--X-y--\r\nepilogue\r\n--X-y"
)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64, len(FORM)])
def test_multipart_cut_anywhere(size: int) -> None:
    parser = Multipart('Multipart/Form-Data; charset=x; boundary="X-y"')
    found: list[tuple[Part, bytes]] = []
    for at in range(0, len(FORM), size):
        for event in parser.feed(FORM[at : at + size]):
            if isinstance(event, Part):
                found.append((event, b""))
            else:
                found[-1] = found[-1][0], found[-1][1] + event
    parser.close()
    assert found == [
        (Part("a", None), b"value"),
        (Part("f", 'q"".bin'), b"\r\n--X-\r\n--X\r\n\r\n"),
        (Part("bare", None), b""),
    ]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", FORM),
        ("application/json; boundary=X-y", FORM),
        ("multipart/form-data; boundary=other", FORM),
        ("multipart/form-data; boundary=X-y", FORM.partition(b"--X-y--")[0]),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"x" * 20_000),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"x" * 20_000 + b"\r\n\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nx: y\r\n\r\n\r\n--b--"),
    ],
)
def test_malformed_multipart(kind: str, body: bytes) -> None:
    def parse() -> None:
        parser = Multipart(kind)
        for _ in parser.feed(body):
            pass
        parser.close()

    with pytest.raises(ApiError) as error:
        parse()
    assert error.value.status == 400
