"""What a path asks for: the endpoint behind the ways in which Azure spells it."""

from urllib.parse import unquote

_PREFIXES = ("openai/", "deployments/")
LONGEST = 256
"""Characters of a deployment's name."""


def operation(endpoint: str) -> tuple[str, str | None]:
    """An endpoint as OpenAI spells it, and the deployment that the path names in place of a model.

    `openai/deployments/prod-4o/chat/completions` is `chat/completions` of `prod-4o`, and
    `openai/v1/responses` is `responses`; all others are as they are. A request there need not name a model in
    its body: the deployment says which, and the price table has it as an alias of the upstream, or its own.
    """
    if not endpoint.startswith(_PREFIXES):
        return endpoint, None
    rest = endpoint.removeprefix("openai/").removeprefix("v1/")
    if not rest.startswith("deployments/"):
        return rest, None
    name, _, rest = rest.removeprefix("deployments/").partition("/")
    return rest, unquote(name)[:LONGEST] or None
