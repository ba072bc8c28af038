"""Every name that a span of ours carries, in one place.

HTTP: the stable conventions. GenAI: those of v1.41.0, the last in OpenTelemetry's main repository, or the
newest (v0.1.0 of the GenAI repository), by `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental`. What
no convention names is under `weir.`: GenAI's names are not stable and ours must not collide with them.
"""

from typing import NamedTuple

CLIENT_ADDRESS = "client.address"
ERROR_TYPE = "error.type"
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
URL_PATH = "url.path"
URL_SCHEME = "url.scheme"
USER_AGENT = "user_agent.original"

WEIR_ATTEMPTS = "weir.attempts"
WEIR_COST = "weir.cost.nano_usd"
WEIR_COST_ESTIMATED = "weir.cost.estimated"
WEIR_COST_PRICES = "weir.cost.price_version"
WEIR_END_CODE = "weir.end_code"
WEIR_END_REASON = "weir.end_reason"
WEIR_ESTIMATE_COST = "weir.estimate.max_cost_nano_usd"
WEIR_ESTIMATE_INPUT = "weir.estimate.input_tokens"
WEIR_ESTIMATE_OUTPUT = "weir.estimate.max_output_tokens"
WEIR_KEY_ID = "weir.key_id"
WEIR_OUTCOME = "weir.outcome"
WEIR_PHASE = "weir.phase"
WEIR_PLUGIN = "weir.plugin"
WEIR_REQUEST_ID = "weir.request_id"
WEIR_RESENT = "weir.resent"
WEIR_TEAM = "weir.team"
WEIR_TIME_TO_FIRST_BYTE = "weir.time_to_first_byte"
WEIR_UPSTREAM = "weir.upstream"
WEIR_USAGE_PROVENANCE = "weir.usage.provenance"


class GenAi(NamedTuple):
    """One version of the GenAI conventions; None is what it has no name for."""

    schema_url: str | None
    operation: str = "gen_ai.operation.name"
    provider: str = "gen_ai.provider.name"
    output_type: str = "gen_ai.output.type"
    request_model: str = "gen_ai.request.model"
    request_stream: str = "gen_ai.request.stream"
    response_model: str = "gen_ai.response.model"
    time_to_first_chunk: str = "gen_ai.response.time_to_first_chunk"
    input_tokens: str = "gen_ai.usage.input_tokens"
    output_tokens: str = "gen_ai.usage.output_tokens"
    cached_tokens: str = "gen_ai.usage.cache_read.input_tokens"
    cache_write_tokens: str = "gen_ai.usage.cache_creation.input_tokens"
    reasoning_tokens: str = "gen_ai.usage.reasoning.output_tokens"
    audio_input_tokens: str | None = None
    audio_output_tokens: str | None = None
    image_input_tokens: str | None = None
    image_output_tokens: str | None = None
    api_type: str = "openai.api.type"
    service_tier: str = "openai.response.service_tier"


V1_41 = GenAi("https://opentelemetry.io/schemas/1.41.0")
LATEST = GenAi(
    None,
    cache_write_tokens="gen_ai.usage.cache_write.input_tokens",
    audio_input_tokens="gen_ai.usage.audio.input_tokens",
    audio_output_tokens="gen_ai.usage.audio.output_tokens",
    image_input_tokens="gen_ai.usage.image.input_tokens",
    image_output_tokens="gen_ai.usage.image.output_tokens",
)


class Operation(NamedTuple):
    """What a POST to an endpoint is in GenAI's terms; `api_type` is OpenAI's own."""

    name: str
    output_type: str | None = None
    api_type: str | None = None


OPERATIONS = {
    "chat/completions": Operation("chat", api_type="chat_completions"),
    "responses": Operation("chat", api_type="responses"),
    "completions": Operation("text_completion"),
    "embeddings": Operation("embeddings"),
    "images/generations": Operation("generate_content", "image"),
    "images/edits": Operation("generate_content", "image"),
    "images/variations": Operation("generate_content", "image"),
    "audio/speech": Operation("generate_content", "speech"),
    "audio/transcriptions": Operation("generate_content", "text"),
    "audio/translations": Operation("generate_content", "text"),
}

# By a word of the upstream's name, which is its host unless configured; in this order, since Azure's
# hosts have `openai` in them too. Whatever else speaks OpenAI's API is `openai`, as the conventions say.
PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "vertex": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "anthropic": "anthropic",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "groq": "groq",
    "mistral": "mistral_ai",
    "perplexity": "perplexity",
    "xai": "x_ai",
}
OPENAI = "openai"
