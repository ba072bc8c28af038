"""What a request costs: pure functions and values; imports nothing else of Weir."""
