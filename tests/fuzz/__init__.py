"""Random cases of every operation against fastcnn.reference: all instruction sets, 1 to 3 threads.

    python -m tests.fuzz --ops conv2d norm --cases 2000 --seed 0

Where the arithmetic allows, data are small integers and results must agree to the bit; else within a bound of some
units in the last place of what is summed, given beside each comparison. A case that fails is printed in full; its
number and the seed reproduce it.
"""

FAMILIES = (
    "conv2d",
    "conv1d",
    "conv3d",
    "transpose",
    "depthwise",
    "dense",
    "pool",
    "norm",
    "merge",
    "resize",
    "activation",
    "loss",
    "optimizer",
    "augment",
    "network",
)
