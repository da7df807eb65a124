"""Reading a network's head in tests."""

from di4c_cli.core.sites import Sites


def all_logits(network, h, num_dims):
    """Logits (B, L, D, S) of features at every position."""
    B, D = len(h), num_dims
    return network.head(h, Sites.everywhere(B, D, h.device)).unflatten(0, (D, B)).permute(1, 2, 0, 3)


def logits_at(network, h, positions, num_dims):
    """Those of a slice of positions alone."""
    rows = Sites.everywhere(len(h), num_dims, h.device)
    first, last, _ = positions.indices(num_dims)
    chosen = rows.row[first * len(h) : last * len(h)], rows.position[first * len(h) : last * len(h)]
    logits = network.head(h, Sites(*chosen, len(h), num_dims))
    return logits.unflatten(0, (-1, len(h))).permute(1, 2, 0, 3)
