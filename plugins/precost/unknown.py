"""The refusal of a model that the price table does not know."""

from proxy.api import ClientError

SHOWN = 100
"""Characters of the name that the message repeats."""


def unknown_model(model: object) -> ClientError:
    """A 404, as OpenAI answers where there is no such model. `model` is what the request has, if anything."""
    if isinstance(model, str) and model:
        shown = "".join(each if each.isprintable() else "?" for each in model[:SHOWN])
        what = f"The model '{shown}' has no price here, and is refused for that"
    else:
        what = "The request names no model, and without one it has no price"
    return ClientError(
        404,
        "model_not_found",
        f"{what}: ask for one of GET /models, or have it added to the price table.",
        param="model",
    )
