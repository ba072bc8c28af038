"""How fast Weir is: `make bench` measures it beside others, `make guard` counts its instructions.

`run` is the benchmark and `guard` the count. Linux only: both read /proc. docs/performance.md says what is
measured and what came of it.
"""
