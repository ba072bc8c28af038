"""The front door: the HTTP/1.1 server protocol, and what runs it."""
