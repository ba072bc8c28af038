"""What of a request's body is prompt, and how many tokens that is: one family of endpoints a file."""

from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.prompt.read import ENDPOINTS, quick, read

__all__ = ["ENDPOINTS", "Prompt", "quick", "read"]
