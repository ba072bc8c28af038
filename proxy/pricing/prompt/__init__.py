"""What of a request's body is prompt, and how many tokens that is: one family of endpoints a file."""

from proxy.pricing.prompt.form import Form, read_form
from proxy.pricing.prompt.plain import plain
from proxy.pricing.prompt.priced import max_cost, max_output, used
from proxy.pricing.prompt.prompt import Prompt
from proxy.pricing.prompt.read import ENDPOINTS, FORMS, quick, read, read_upload

__all__ = [
    "ENDPOINTS",
    "FORMS",
    "Form",
    "Prompt",
    "max_cost",
    "max_output",
    "plain",
    "quick",
    "read",
    "read_form",
    "read_upload",
    "used",
]
