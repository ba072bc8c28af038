"""Few names for many paths: what `http.route` and a span's name may hold."""

_ENDPOINTS = frozenset(
    (
        "audio/speech",
        "audio/transcriptions",
        "audio/translations",
        "batches",
        "chat/completions",
        "completions",
        "embeddings",
        "files",
        "fine_tuning/jobs",
        "images/edits",
        "images/generations",
        "images/variations",
        "models",
        "moderations",
        "rate-limit/status",
        "responses",
        "usage",
        "vector_stores",
    )
)
_FOLDERS = frozenset(
    (
        "assistants",
        "audio",
        "batches",
        "chat",
        "containers",
        "conversations",
        "evals",
        "files",
        "fine_tuning",
        "images",
        "models",
        "organization",
        "realtime",
        "responses",
        "threads",
        "uploads",
        "vector_stores",
        "videos",
    )
)


def route(path: str, endpoint: str) -> str | None:
    """`/v1/chat/completions`, `/v1/files/*`, or None for what is not of OpenAI's API.

    There are as many routes as there are names in this file, twice: with `/v1` and without, as it was asked.
    """
    prefix = "/v1/" if path.startswith("/v1/") else "/"
    if endpoint in _ENDPOINTS:
        return prefix + endpoint
    folder = endpoint.partition("/")[0]
    return f"{prefix}{folder}/*" if folder in _FOLDERS else None
