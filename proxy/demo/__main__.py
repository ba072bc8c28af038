"""`python -m proxy.demo [--port N]`: the demo upstream on 127.0.0.1; without a port, on a free one."""

import argparse

import uvicorn

from . import create_app


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m proxy.demo", description="A fake OpenAI API for demos and tests."
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one, see the log)"
    )
    uvicorn.run(create_app(), host="127.0.0.1", port=parser.parse_args().port)


if __name__ == "__main__":
    main()
