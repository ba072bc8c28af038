"""The `validate` plugin: the API's own errors, without asking the API."""

from proxy.api import ClientError, Exchange, Plugin

from .checks import check
from .fields import ENDPOINTS


class Validate(Plugin):
    """Refuses requests to chat completions, embeddings and image generations that lack a required field or
    have one of a wrong type, with a 400 that names the field in `param`.

    Fields that it does not know pass, and so do other endpoints. Put it behind `auth` and before what costs.
    """

    async def on_request(self, ex: Exchange) -> None:
        """Raises `ClientError`."""
        request = ex.request
        fields = ENDPOINTS.get(request.endpoint)
        if fields is None or request.method != "POST":
            return
        values = await request.json()
        if not isinstance(values, dict):
            raise ClientError(400, "invalid_json", "The request body is not a JSON object.")
        check(values, fields)
