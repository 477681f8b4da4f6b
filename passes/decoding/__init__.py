"""From a causal network of whole sequences to one that keeps keys and values between calls."""
