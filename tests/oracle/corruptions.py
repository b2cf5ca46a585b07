"""The corruptions of lib/ivon/corrupt.h, in double precision and by other means: the blur as a dense matrix for each
axis, the cells of a grid as one of areas, random numbers by normals.py."""
import numpy as np

from normals import normals, words

CONSTANTS = {"noise": [0.08, 0.12, 0.18, 0.26, 0.38], "impulse": [0.03, 0.06, 0.09, 0.17, 0.27],
             "blur": [0.4, 0.6, 0.7, 0.8, 1], "pixelate": [0.75, 0.6, 0.5, 0.4, 0.3],
             "contrast": [0.75, 0.5, 0.4, 0.3, 0.15], "brightness": [0.1, 0.2, 0.3, 0.4, 0.5]}


def blur_matrix(n, deviation):
    at = np.arange(n)
    matrix, reach = np.zeros((n, n)), int(np.floor(4 * deviation + 0.5))
    for d in range(-reach, reach + 1):
        matrix[at, np.clip(at + d, 0, n - 1)] += np.exp(-d * d / (2 * deviation**2))
    return matrix / matrix.sum(1, keepdims=True)


def grid_matrix(n, share):
    """Row i: what of each pixel is in the cell of pixel i's centre."""
    edges = np.linspace(0, n, max(1, int(np.floor(share * n + 0.5))) + 1)
    at = np.arange(n)
    areas = np.clip(np.minimum(at + 1, edges[1:, None]) - np.maximum(at, edges[:-1, None]), 0, None)
    cell = np.searchsorted(edges, at + 0.5 + 1e-9, side="right") - 1 # a centre on an edge is in the cell above it
    return (areas / areas.sum(1, keepdims=True))[cell]


def corrupt(name, level, x, low, high, seed=0, numbers=None):
    """x: examples x channels x height x width, with the ranges of the channels, and the examples' numbers."""
    c, (n, channels, height, width) = CONSTANTS[name][level - 1], x.shape
    numbers = range(n) if numbers is None else numbers
    low, length = np.float64(low)[:, None, None], np.float64(high - low)[:, None, None]
    u = (x - low) / np.where(length > 0, length, 1)
    if name == "noise":
        u = u + c * np.array([normals(seed, i, "corruption/noise", x[0].size) for i in numbers]).reshape(x.shape)
    elif name == "impulse":
        w = np.array([words(seed, i, "corruption/impulse", 0, -(-x[0].size // 4))[:x[0].size] for i in numbers])
        at = (w >> np.uint64(11)).reshape(x.shape) / 2.0**53
        u = np.where(at < c / 2, 0, np.where(at >= 1 - c / 2, 1, u))
    elif name == "blur":
        deviation = c * max(1, min(height, width) / 32)
        u = blur_matrix(height, deviation) @ u @ blur_matrix(width, deviation).T
    elif name == "pixelate":
        u = grid_matrix(height, c) @ u @ grid_matrix(width, c).T
    elif name == "contrast":
        mean = u.mean((2, 3), keepdims=True)
        u = mean + c * (u - mean)
    else:
        u = u + c
    return np.where(length > 0, low + length * np.clip(u, 0, 1), x).astype("f4")
