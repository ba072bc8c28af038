"""The management port."""
