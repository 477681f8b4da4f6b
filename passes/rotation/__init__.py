"""Parts of ``rotate``: norms, means, matrices, what a rotation needs at run time."""
