"""PyTorch's side of convolution.sh: the same lines of standard input, the same times in return. The
gradients of images are whichever is fastest of a grouped convolution, of unfolding and one product
for each image, and of one image after the other.
"""
import sys
import time

import torch
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

torch.set_num_threads(1)


def seconds(work):
    work()
    best, deadline = 1e9, time.perf_counter() + 0.1
    while True:
        start = time.perf_counter()
        work()
        end = time.perf_counter()
        best = min(best, end - start)
        if end > deadline:
            return best


with torch.no_grad():
    for line in sys.stdin:
        n, g, c, m, extent, k, stride, pad = map(int, line.split()[1:])
        x, w = torch.randn(n, c, extent, extent), torch.randn(m, c // g, k, k)
        y = torch.randn_like(F.conv2d(x, w, None, stride, pad, 1, g))
        stacked, kernels = x.reshape(1, n * c, extent, extent), torch.randn(n * m, c // g, k, k)
        adjoint, rows = y.reshape(1, n * m, *y.shape[2:]), y.reshape(n * g, m // g, -1)
        grouped = x.reshape(n * g, c // g, extent, extent)
        print(*("%.3e" % t for t in (
            seconds(lambda: F.conv2d(x, w, None, stride, pad, 1, g)),
            seconds(lambda: conv2d_input(x.shape, w, y, stride, pad, 1, g)),
            seconds(lambda: conv2d_weight(x, w.shape, y, stride, pad, 1, g)),
            min(seconds(lambda: conv2d_weight(stacked, kernels.shape, adjoint, stride, pad, 1,
                                              n * g)),
                seconds(lambda: torch.bmm(rows, F.unfold(grouped, k, 1, pad, stride).mT)),
                seconds(lambda: [conv2d_weight(a, w.shape, b, stride, pad, 1, g)
                                 for a, b in zip(x.split(1), y.split(1))])))))
