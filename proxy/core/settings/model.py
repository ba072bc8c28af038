"""What all settings have in common."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator


@dataclass(frozen=True, slots=True)
class Context:
    """Validation of a document, as opposed to models made in Python: numbers need units, paths a folder."""

    folder: Path


def text_schema(pattern: str) -> dict[str, Any]:
    """JSON schema of text that matches all of a pattern."""
    # A reference may stand wherever text may; what it becomes is checked when it is loaded.
    return {"type": "string", "pattern": rf"^({pattern})$|\$\{{"}


class Model(BaseModel):
    """Frozen; an unknown key is an error, and no error repeats what was given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: object, info: ValidationInfo) -> object:
        # `log:` with everything under it commented out is a null; an unknown key stays an unknown key.
        if info.context is None or not isinstance(value, dict):
            return value
        return {k: v for k, v in value.items() if v is not None or k not in cls.model_fields}
