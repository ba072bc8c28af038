import copy
import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
import orjson
import pytest
import pytest_asyncio
import schemathesis
from hypothesis import given, settings
from prometheus_client import CollectorRegistry
from schemathesis import checks
from schemathesis.core.failures import FailureGroup
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount, Route

from proxy.admin.app import management
from proxy.admin.openapi import document
from proxy.api import Plugin, Server
from proxy.core.app import App
from proxy.core.chain import Chain
from proxy.core.config import Address, Settings
from tests.core.test_app import ask
from tests.faults.process import Process

TOKEN, KEY = "management-token-1234", "alices-key-1234567"
OWN = {"/health", "/models", "/healthz", "/readyz", "/startupz", "/metrics", "/inflight", "/openapi.json"}


async def nothing(_: Any) -> JSONResponse:
    return JSONResponse({})


class Notes(Plugin):
    """Has routes on both ports."""

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/notes/{id:int}", nothing, methods=["GET", "PUT", "PURGE"]),
            Mount("/files", routes=[]),
        ]

    def management_routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/notes", nothing),
            Route("/notes", nothing, methods=["DELETE"]),
            Route("/rate-limit/status", nothing),
        ]


def made(*plugins: Plugin, listen: str = "127.0.0.1:3006", token: str | None = None) -> dict[str, Any]:
    named: dict[str, Any] = {"listen": Address.parse(listen), "management_token": token}
    data = [route for plugin in plugins for route in plugin.routes()]
    added = [route for plugin in plugins for route in plugin.management_routes()]
    return document(Settings.model_validate(named), data, added)


def objects(value: Any) -> list[dict[str, Any]]:
    """Every JSON object in a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value] if isinstance(value, dict) else []
    return own + [found for part in inner for found in objects(part)]


# -- the document ----------------------------------------------------------------------------------------


def test_it_is_openapi() -> None:
    for of in (made(), made(Notes(), token=TOKEN)):
        schemathesis.openapi.from_dict(of).validate()


def test_a_document_that_is_none_is_found() -> None:
    broken = made()
    del broken["paths"]["/health"]["get"]["responses"]["200"]["description"]
    with pytest.raises(Exception, match="description"):
        schemathesis.openapi.from_dict(broken).validate()


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    whole = made(Notes(), *_limiter())
    used = {part["$ref"] for part in objects(whole) if "$ref" in part}
    schemas = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses")
        for name in whole["components"][kind]
    }
    assert used == schemas
    needed = {name for part in objects(whole) for entry in part.get("security", ()) for name in entry}
    assert needed <= set(whole["components"]["securitySchemes"])


def _limiter() -> list[Plugin]:
    class Limiter(Plugin):
        def routes(self) -> Sequence[BaseRoute]:
            return [Route("/rate-limit/status", nothing)]

    return [Limiter()]


def test_a_route_of_the_built_in_limiter_is_described() -> None:
    assert set(made()["paths"]) == OWN
    described = made(*_limiter())["paths"]["/rate-limit/status"]
    assert described["get"]["operationId"] == "rateLimitStatus"
    assert described["servers"] == made()["paths"]["/models"]["servers"]


def test_routes_of_plugins_are_listed() -> None:
    paths = made(Notes())["paths"]
    assert set(paths) == OWN | {"/notes/{id}", "/notes", "/rate-limit/status"}
    assert set(paths["/notes"]) == {"get", "delete"}
    one = paths["/notes/{id}"]
    assert set(one) == {"get", "put", "parameters", "servers"}
    assert [(p["name"], p["in"], p["required"]) for p in one["parameters"]] == [("id", "path", True)]
    # What stands on the management port under the limiter's path is not the limiter's.
    assert paths["/rate-limit/status"]["get"]["tags"] == ["plugins"]


def test_a_plugin_does_not_describe_ours() -> None:
    class Thief(Plugin):
        def management_routes(self) -> Sequence[BaseRoute]:
            return [Route("/healthz", nothing, methods=["GET", "POST"])]

    assert made(Thief())["paths"]["/healthz"] == made()["paths"]["/healthz"]


@pytest.mark.parametrize(
    ("listen", "host"),
    [
        ("127.0.0.1:8000", "127.0.0.1"),
        (":8000", "127.0.0.1"),
        ("[::]:8000", "127.0.0.1"),
        ("[::1]:8000", "[::1]"),
    ],
)
def test_it_says_where_the_data_port_is(listen: str, host: str) -> None:
    whole = made(listen=listen)
    for path in ("/health", "/models"):
        (server,) = whole["paths"][path]["servers"]
        variables = {name: of["default"] for name, of in server["variables"].items()}
        assert server["url"].format(**variables) == f"http://{host}:8000"
    assert whole["servers"][0]["url"] == "/"
    assert "servers" not in whole["paths"]["/healthz"]


def test_it_asks_for_the_token_where_one_is_set() -> None:
    assert made()["security"] == []
    with_token = made(token=TOKEN)
    assert with_token["security"] == [{"managementToken": []}]
    assert TOKEN not in str(with_token)
    for path in OWN - {"/openapi.json", "/inflight", "/models"}:
        assert with_token["paths"][path]["get"]["security"] == []
    for path in ("/openapi.json", "/inflight"):
        assert "security" not in with_token["paths"][path]["get"]


async def test_every_route_of_the_data_port_is_in_it() -> None:
    app = App(
        Settings.model_validate({"upstreams": [{"name": "up", "base_url": "http://127.0.0.1:9/v1"}]}),
        Chain([Notes()]),
        Server(metrics=CollectorRegistry()),
    )
    await app.start()
    served = {route.path_format for route in app._routes.routes if isinstance(route, Route)}
    assert served == {"/models", "/notes/{id}"}
    assert served <= set(made(Notes())["paths"])
    await app.stop()


async def test_it_is_that_of_the_chain_that_serves_now() -> None:
    app = App(
        Settings.model_validate({"upstreams": [{"name": "up", "base_url": "http://127.0.0.1:9/v1"}]}),
        Chain([]),
        Server(metrics=CollectorRegistry()),
    )
    port = management(app)
    await app.start()
    assert set(orjson.loads((await ask(port, "GET", "/openapi.json")).body)["paths"]) == OWN
    await app.reload(app.settings, Chain([Notes()]))
    assert "/notes/{id}" in orjson.loads((await ask(port, "GET", "/openapi.json")).body)["paths"]
    await app.stop()


def test_every_route_of_the_management_port_is_in_it() -> None:
    source = inspect.getsource(inspect.getmodule(management))  # type: ignore[arg-type]
    routes = {line.split('"')[1] for line in source.splitlines() if 'Route("/' in line}
    assert len(routes) == 6
    assert routes <= set(made()["paths"])


# -- what a running Weir answers -------------------------------------------------------------------------

CHAIN = [
    {"use": "auth", "keys": [{"user": "alice", "team": "search", "key": KEY}]},
    "precost",
    {
        "use": "limiter",
        "limits": [
            {"name": "chat", "requests": "100/minute", "on": "chat"},
            {"name": "money", "cost": "0.25/day", "per": "team"},
            {"name": "tokens", "tokens": "100000/hour", "per": "model", "models": ["gpt-*"]},
            {"name": "once", "in_flight": 3, "per": "key", "shadow": True},
        ],
    },
    "annotate",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def weir() -> AsyncIterator[Process]:
    """One with everything that the document describes, before its own demo upstream."""
    async with Process(config={"plugins": CHAIN, "management_token": TOKEN}) as process:
        yield process


@pytest.fixture
def schema(weir: Process) -> Any:
    """Its document, as it gives it out."""
    url = f"http://127.0.0.1:{weir.management}/openapi.json"
    answered = httpx2.get(url, headers={"authorization": f"Bearer {TOKEN}"})
    assert answered.status_code == 200
    return schemathesis.openapi.from_dict(answered.json())


def ports(weir: Process, operation: Any) -> tuple[str, str]:
    """Where an operation is served, and the credential for it."""
    ours = operation.schema.raw_schema["paths"][operation.path].get("servers")
    if ours is None:
        return f"http://127.0.0.1:{weir.management}", TOKEN
    url = ours[0]["url"].format(**{name: of["default"] for name, of in ours[0]["variables"].items()})
    assert url == f"http://127.0.0.1:{weir.port}"
    return url, KEY


CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
GUARDED = {"/models", "/rate-limit/status", "/inflight", "/openapi.json"}
DESCRIBED = sorted(OWN | {"/rate-limit/status"})


def test_it_describes_all_that_is_served(schema: Any) -> None:
    schema.validate()
    assert sorted(operation.ok().path for operation in schema.get_all_operations()) == DESCRIBED


@pytest.mark.parametrize("path", DESCRIBED)
def test_what_is_answered_is_what_it_says(weir: Process, schema: Any, path: str) -> None:
    """Whatever is asked within the document, with the credential, without it, and with another."""
    operation = schema[path]["GET"]
    url, credential = ports(weir, operation)
    seen = set()

    @settings(max_examples=10, deadline=None, database=None)
    @given(case=operation.as_strategy())
    def ask_it(case: Any) -> None:
        for given_one in (f"Bearer {credential}", "Bearer somebody-elses", None):
            headers = {} if given_one is None else {"authorization": given_one}
            answered = case.call_and_validate(base_url=url, headers=headers, checks=CHECKS)
            seen.add(answered.status_code)

    ask_it()
    assert seen == ({200, 401} if path in GUARDED else {200})


def test_an_answer_that_is_another_is_found(weir: Process, schema: Any) -> None:
    """The check above can fail: the same answers against a document that says something else."""
    for path, name in (("/health", "Health"), ("/models", "Model"), ("/rate-limit/status", "Limit")):
        broken = copy.deepcopy(schema.raw_schema)
        broken["components"]["schemas"][name]["required"].append("colour")
        operation = schemathesis.openapi.from_dict(broken)[path]["GET"]
        url, credential = ports(weir, operation)
        with pytest.raises(FailureGroup, match="colour"):
            operation.Case().call_and_validate(
                base_url=url, headers={"authorization": f"Bearer {credential}"}, checks=CHECKS
            )


def test_no_answer_has_a_field_that_it_does_not_name(weir: Process, schema: Any) -> None:
    """Objects may have more than the schema names: what plugins and the upstream add. Ours add nothing."""
    for path in [*sorted(OWN - {"/metrics", "/openapi.json"}), "/rate-limit/status"]:
        closed = copy.deepcopy(schema.raw_schema)
        closed["components"]["schemas"]["Model"]["properties"]["limits"] = {}  # the limiter's
        for part in objects(closed["components"]["schemas"]):
            if part.get("type") == "object":
                part.setdefault("additionalProperties", False)
        operation = schemathesis.openapi.from_dict(closed)[path]["GET"]
        url, credential = ports(weir, operation)
        operation.Case().call_and_validate(
            base_url=url, headers={"authorization": f"Bearer {credential}"}, checks=CHECKS
        )
