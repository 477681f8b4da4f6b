"""Where a compressed network departs from the float one, and which channels are coupled."""
