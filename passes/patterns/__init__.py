"""What ``canonicalize`` recognizes: forms that exporters take apart, and recurrences."""
