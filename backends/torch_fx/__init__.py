"""Graphs as ``torch.fx`` modules that can be trained; needs torch (the extra ``torch``)."""
