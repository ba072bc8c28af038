"""What `proxy.core.config` is made of: addresses, values, upstreams, and messages about them."""
