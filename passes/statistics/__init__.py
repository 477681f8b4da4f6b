"""What calibration data say of values: ranges and moments, from a stream."""
