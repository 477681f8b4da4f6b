"""How many bits single layers and activations get: curves, allocation, an accuracy to keep."""
