"""Refuses requests that the API itself would refuse, before they cost anything."""

from .plugin import Validate

__all__ = ["Validate"]
