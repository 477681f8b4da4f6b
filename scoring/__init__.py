"""How good and how fast networks are: metrics, runs over data, other engines."""
