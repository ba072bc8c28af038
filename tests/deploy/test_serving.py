"""Weir by the configurations in deploy/, with the demo upstream for the provider and a Redis of its own."""

from pathlib import Path

import httpx2
import pytest

from tests.e2e.command import two_ports
from tests.e2e.reader import reader
from tests.e2e.twins import demo_upstream
from tests.plugins.limiter.redis.servers import server

from .manifests import DEPLOY, secrets_in

pytestmark = pytest.mark.slow

ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ("compose/weir.yaml", "a-long-random-word"),
        ("kubernetes/gateway/weir.yaml", "sk-weir/alice-key-of-some-length"),
        ("kubernetes/sidecar/weir.yaml", None),
    ],
)
def test_it_serves_and_is_probed(config: str, key: str | None, tmp_path: Path) -> None:
    text = secrets_in((DEPLOY / config).read_text(), tmp_path).replace("/var/lib/weir", f"{tmp_path}/state")
    port = two_ports()
    with (
        server() as redis,
        demo_upstream(tmp_path / "upstream", port) as upstream,
        reader(tmp_path, upstream.removesuffix("/v1")) as somebody,
    ):
        for host in ("redis", "weir-redis"):
            text = text.replace(f"redis://{host}:6379/0", redis.url)
        # Nothing but this machine is to reach what a test starts.
        (tmp_path / "weir.yaml").write_text(somebody.moved(text.replace("0.0.0.0:", "127.0.0.1:")))
        somebody.env |= {"OPENAI_API_KEY": "sk-of-the-provider", "ALICE_KEY": "a-long-random-word"}
        somebody.do("weir serve")
        for probe in ("/startupz", "/readyz", "/healthz"):
            assert somebody.get(probe, management=True).status_code == 200
        api = f"http://127.0.0.1:{somebody.port}/v1/chat/completions"
        answer = httpx2.post(
            api, json=ASK, headers={"authorization": f"Bearer {key}"} if key else {}, timeout=20
        )
        assert answer.status_code == 200
        assert answer.headers["x-weir-cost-usd"]
        refused = httpx2.post(api, json=ASK, timeout=20)
        assert refused.status_code == (401 if key else 200)
        with redis.client() as client:
            counted = list(client.scan_iter("weir:*"))
        assert bool(counted) is (key is not None)  # a gateway's replicas count together, a sidecar by itself
