"""Adds a header to every request or answer. In weir.yaml:

- use: examples.add_header:AddHeader
  answer: {x-served-by: weir}
"""

from proxy.api import Exchange, Plugin


class AddHeader(Plugin):
    def __init__(self, request: dict[str, str] | None = None, answer: dict[str, str] | None = None) -> None:
        self.request = request or {}
        self.answer = answer or {}

    async def on_request(self, ex: Exchange) -> None:
        for name, value in self.request.items():
            ex.request.headers[name] = value

    async def on_response(self, ex: Exchange) -> None:
        for name, value in self.answer.items():
            ex.response.headers[name] = value
