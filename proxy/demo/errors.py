"""Errors in OpenAI's envelope: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping


class ApiError(Exception):
    """What any handler raises to answer with an error; never raised once a stream has begun."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.envelope = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def missing(param: str) -> ApiError:
    return ApiError(
        400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def invalid(param: str, expected: str) -> ApiError:
    return ApiError(
        400, f"Invalid value for '{param}': expected {expected}.", param=param, code="invalid_value"
    )


def not_found(what: str, name: str) -> ApiError:
    return ApiError(404, f"No such {what}: '{name}'.", param="id")
