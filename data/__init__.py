"""Calibration and evaluation data: files, folders, streams of feeds."""
