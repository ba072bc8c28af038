"""The built-in plugins. Each imports `proxy.api`, `proxy.pricing` and its own folder; never another."""
