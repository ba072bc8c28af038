"""An issuer of tokens: keys of its own, what it signs, and its key set as a file or behind a URL."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

NAME = "https://issuer.test"
_MAKERS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


class SigningKey:
    def __init__(self, algorithm: str, id: str | None = None) -> None:
        self.algorithm = algorithm
        self.id = id
        self.private = _MAKERS[algorithm]()

    def jwk(self, **more: Any) -> dict[str, Any]:
        family = jwt.get_algorithm_by_name(self.algorithm)
        made: dict[str, Any] = family.to_jwk(self.private.public_key(), as_dict=True)
        return {**made, **({} if self.id is None else {"kid": self.id}), "use": "sig", **more}

    def sign(self, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token for "weir", good for a minute, unless the claims say otherwise; None takes one out."""
        now = int(time.time())
        said = {"iss": NAME, "aud": "weir", "sub": "alice", "exp": now + 60, **claims}
        head = {} if self.id is None else {"kid": self.id}
        return jwt.encode(
            {name: value for name, value in said.items() if value is not None},
            self.private,
            self.algorithm,
            headers={**head, **(headers or {})},
        )


def key_set(*keys: SigningKey) -> bytes:
    return orjson.dumps({"keys": [key.jwk() for key in keys]})


class Served:
    """A key set behind a URL. `answer` is what it says next: a body, or a status and headers."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[dict[str, str]] = []
        self.url = ""


@contextmanager
def serving(answer: Any) -> Iterator[Served]:
    served = Served(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append({name.lower(): value for name, value in self.headers.items()})
            said = served.answer
            status, headers, body = said if isinstance(said, tuple) else (200, {}, said)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/jwks"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
