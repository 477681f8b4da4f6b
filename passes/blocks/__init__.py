"""Which values of a network are cut into blocks of a number format, and in which order."""
