"""`python -m tests.e2e.azure PORT`: the demo upstream at Azure OpenAI's addresses, with Azure's credentials.

The v1 API below `/openai/v1` takes the key in `api-key` or `Authorization`; the older one, below
`/openai/deployments/NAME`, takes it in `api-key` only, wants an `api-version`, and its body need not name the
model.
"""

import re
import sys
from typing import Any

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from proxy.demo import create_app

KEY = b"your-resources-key"
_OLDER = re.compile(r"/openai/deployments/[^/]+/")


def azure(demo: Any) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer: Any = demo
        if scope["type"] == "http":
            path, older = _OLDER.subn("/v1/", scope["path"])
            path, newer = (path, 0) if older else re.subn("^/openai/v1/", "/v1/", path)
            headers = dict(scope["headers"])
            bearer = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
            if not older and not newer:
                answer = JSONResponse({"error": {"message": "no such path"}}, 404)
            elif KEY not in (headers.get(b"api-key"), bearer if newer else None):
                answer = JSONResponse({"error": {"message": "no key"}}, 401)
            elif older and b"api-version=" not in scope["query_string"]:
                answer = JSONResponse({"error": {"message": "no api-version"}}, 404)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await answer(scope, receive, send)

    return app


if __name__ == "__main__":
    uvicorn.run(azure(create_app()), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
