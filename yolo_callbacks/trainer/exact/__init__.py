"""Everything that the next epoch depends on: read from a trainer at the end of an epoch, and put back before the next.

What is read is plain: dicts, lists, numbers, strings and tensors, so that `torch.load(weights_only=True)` loads it.
"""
