from prometheus_client import CollectorRegistry, generate_latest

from proxy.core.server.reloads import Reloads


def test_how_many_went_how_and_how_the_last_one_went() -> None:
    reloads = Reloads()
    registry = CollectorRegistry()
    registry.register(reloads)

    def told(done: int, failed: int, last_failed: int) -> bool:
        text = generate_latest(registry).decode()
        return (
            f'weir_config_reloads_total{{outcome="done"}} {done}.0' in text
            and f'weir_config_reloads_total{{outcome="failed"}} {failed}.0' in text
            and f"weir_config_reload_failed {last_failed}.0" in text
        )

    assert told(0, 0, 0)
    reloads.failed()
    reloads.failed()
    assert told(0, 2, 1)
    reloads.done()
    assert told(1, 2, 0)
