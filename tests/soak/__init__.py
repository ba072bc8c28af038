"""The real command with all plugins, under random load and random faults, for as long as one likes.

`python -m tests.soak` runs it, `make soak` too. `clients.py` is what clients do, `upstream.py` what the
upstream does to them, `disturbances.py` what happens to Redis, the network and the configuration meanwhile.
Every few seconds all of it rests, and what Weir holds then is measured (`world.py`) and judged
(`figures.py`). `planted.py` has plugins with a leak each, which show that the soak can fail.
"""
