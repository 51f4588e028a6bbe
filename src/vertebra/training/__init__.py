"""Training: one loop, exact to the bit, whose work is never lost.

`loop.train(job)` trains a network as a `Job` says; a `Recipe` says how. docs/train.md explains both.
"""
