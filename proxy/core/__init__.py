"""The engine: imports `proxy.api` and `proxy.pricing`, never a plugin. Start reading at `forward.py`."""
