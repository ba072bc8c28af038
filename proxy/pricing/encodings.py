"""Model name → encoding.

A table of our own: tiktoken's does not know names with a vendor, in capitals or of new models, and takes
fine-tuned gpt-4.1 models for gpt-4 ones. What nobody knows is o200k_base, the encoding of all current models.
"""

from functools import lru_cache

from proxy.pricing.vocabulary import VOCABULARIES

LONGEST = 256
"""Characters of a model's name that are looked at."""
# The first that fits counts: the same name, or one that goes on with a dash, as gpt-4-turbo but not gpt-4o.
_TABLE = (
    ("gpt-4", "cl100k_base"),
    ("gpt-3.5", "cl100k_base"),
    ("gpt-35", "cl100k_base"),  # Azure's spelling
    ("text-embedding", "cl100k_base"),
    ("davinci-002", "cl100k_base"),
    ("babbage-002", "cl100k_base"),
    ("text-davinci-002", "p50k_base"),
    ("text-davinci-003", "p50k_base"),
    ("text-davinci-edit", "p50k_base"),
    ("code-search", "r50k_base"),
    ("code", "p50k_base"),
    ("davinci-codex", "p50k_base"),
    ("cushman-codex", "p50k_base"),
    *(
        (f"text-{name}", "r50k_base")
        for name in ("davinci", "curie", "babbage", "ada", "similarity", "search")
    ),
    *((name, "r50k_base") for name in ("davinci", "curie", "babbage", "ada", "gpt2", "gpt-2")),
)


_SAME = {"o200k_harmony": "o200k_base", "p50k_edit": "p50k_base", "gpt2": "r50k_base"}


def ordinary(encoding: str) -> str:
    """The encoding in the package that counts ordinary text as this one does; else `o200k_base`."""
    encoding = _SAME.get(encoding, encoding)
    return encoding if encoding in VOCABULARIES else "o200k_base"


def base_model(model: str) -> str:
    """The plain name in lower case: `openai/GPT-4o`, `ft:gpt-4o:acme::7` and `gpt-4o:free` are `gpt-4o`."""
    name = model[:LONGEST].lower()
    vendor, tuned, base = name.partition("ft:")
    if tuned and (not vendor or vendor.endswith("/")):
        name = base
    return name.partition(":")[0].rpartition("/")[2]


def encoding_for(model: str) -> str:
    """The encoding of a model; any text will do, and what is not known is `o200k_base`."""
    return _encoding(model[:LONGEST])


@lru_cache(maxsize=512)
def _encoding(model: str) -> str:
    name = base_model(model)
    for start, encoding in _TABLE:
        if name == start or name.startswith(start + "-"):
            return encoding
    return "o200k_base"
