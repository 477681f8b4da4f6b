"""Which codes and steps stand for weights."""
