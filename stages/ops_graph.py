"""Connected components of the graph of similar rows, from blocks of its Gram matrix: never n x n numbers at once.

Legend: R rows, B of a block, D channels, E edges, K components. A zero row is alike to zero rows, and to no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from . import ops

BLOCK_CELLS = 4 << 20  # of the Gram matrix worked on at once, at most
BLOCK_ROWS = 256  # the same: of a block's first columns half are below the diagonal, worked out for nothing
MOST_EDGES = 2 << 20  # held before they are joined to a forest, which has fewer edges than rows


def similar_components(rows_RD: Tensor, tau: float, spans: Iterable[tuple[int, int]]) -> Tensor:
    """int64 (R,): component of each row in the graph of pairs with a cosine above `tau` (strict) within one span.

    Components are numbered by the row of the highest degree in each, the lowest row on ties. `spans` are half-open.
    At tau = 1 nothing is alike, not even equal rows.
    """
    length_R = ops.squared_norms(rows_RD).sqrt_()
    degree_R = torch.zeros(len(rows_RD), dtype=torch.int64, device=rows_RD.device)
    forest, held = degree_R.new_empty(2, 0), [degree_R.new_empty(2, 0)]
    for first, second in alike(rows_RD, length_R, tau, spans):
        degree_R += first.bincount(minlength=len(degree_R)) + second.bincount(minlength=len(degree_R))
        held.append(torch.stack([first, second]))
        if sum(edges.shape[1] for edges in held) > MOST_EDGES:
            label_R = joined(torch.cat([forest, *held], 1), len(degree_R))
            forest, held = _stars(label_R), []
    return by_degree(joined(torch.cat([forest, *held], 1), len(degree_R)), degree_R)


def alike(
    rows_RD: Tensor, length_R: Tensor, tau: float, spans: Iterable[tuple[int, int]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs (first < second) of rows alike, in blocks: int64 (E,) twice."""
    if tau >= 1:
        return
    for start, end in spans:
        for first, dots in products(rows_RD, length_R, start, end):
            found = (dots > tau * length_R[first:end]).triu_(1).nonzero() + first
            yield found[:, 0], found[:, 1]
        yield zero_pairs(length_R, start, end)


def products(
    rows_RD: Tensor, length_R: Tensor, start: int, end: int, least: int = BLOCK_ROWS
) -> Iterator[tuple[int, Tensor]]:
    """Blocks of rows of a span, the first of at most `least`: where each begins, and (B, R') dot products.

    They are of the block's rows, at length 1, with the rows from there to the span's end as they are; -inf for zero
    rows, which are alike to nothing here.
    """
    inverse_R = inverse(length_R)
    for first, last in pairwise(_borders(start, end, least)):
        unit_BD = ops.widen(rows_RD[first:last]) * inverse_R[first:last, None]
        dots = _dots(unit_BD, rows_RD[first:end])
        zero = length_R[first:end] == 0
        if bool(zero.any()):
            dots.masked_fill_(zero[: last - first, None] | zero, float("-inf"))
        yield first, dots


def zero_pairs(length_R: Tensor, start: int, end: int) -> tuple[Tensor, Tensor]:
    """Pairs of rows of length 0 that join all of them in a span."""
    zero = (length_R[start:end] == 0).nonzero()[:, 0] + start
    return zero[:-1], zero[1:]


def _borders(start: int, end: int, most: int) -> Iterator[int]:
    """Where blocks of rows begin, the second after `most` rows, and the end."""
    while start < end:
        yield start
        start += min(most, max(1, BLOCK_CELLS // (end - start)), end - start)
        most = BLOCK_ROWS
    yield end


def _dots(unit_BD: Tensor, rows_RD: Tensor) -> Tensor:
    """(B, R): dot products; rows that must be widened are so block by block."""
    if rows_RD.dtype == unit_BD.dtype:
        return unit_BD @ rows_RD.T
    return torch.cat([unit_BD @ part.to(unit_BD.dtype).T for part in rows_RD.split(2048)], 1)


def inverse(length_R: Tensor) -> Tensor:
    """1 / length, 0 for a row without one."""
    return torch.where(length_R > 0, 1 / length_R, 0)


def joined(edges_2E: Tensor, rows: int) -> Tensor:
    """int64 (R,): connected component of each of `rows` rows, numbered anyhow."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first, second = edges_2E.int().cpu().numpy()
    graph = coo_matrix((torch.ones(len(first), dtype=torch.int8).numpy(), (first, second)), (rows, rows))
    _, label = connected_components(graph, directed=False)
    return torch.from_numpy(label).long().to(edges_2E.device)


def _stars(label_R: Tensor) -> Tensor:
    """(2, R): every row joined to the lowest of its component: as good as the edges that made it."""
    row_R = torch.arange(len(label_R), device=label_R.device)
    lowest = torch.full_like(row_R, len(row_R)).scatter_reduce_(0, label_R, row_R, "amin")
    return torch.stack([lowest[label_R], row_R])


def by_degree(label_R: Tensor, degree_R: Tensor) -> Tensor:
    """int64 (R,): the same components numbered by their rows of highest degree, the lowest row on ties."""
    if not len(label_R):
        return label_R
    row_R = torch.arange(len(label_R), device=label_R.device)
    count = int(label_R.max()) + 1
    most_K = degree_R.new_zeros(count).scatter_reduce_(0, label_R, degree_R, "amax")
    hub = degree_R == most_K[label_R]
    hub_K = row_R.new_full((count,), len(row_R)).scatter_reduce_(0, label_R[hub], row_R[hub], "amin")
    return hub_K.argsort().argsort()[label_R]
