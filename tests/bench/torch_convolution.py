"""PyTorch's side of convolution.sh: the same lines of standard input, the same times in return. The
gradients of examples are whichever is faster of a grouped convolution, and of unfolding and one
product for each image.
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
        n, c, m, extent, k, stride, pad = map(int, line.split()[1:])
        x, w = torch.randn(n, c, extent, extent), torch.randn(m, c, k, k)
        y = torch.randn_like(F.conv2d(x, w, None, stride, pad))
        stacked, kernels = x.reshape(1, n * c, extent, extent), torch.randn(n * m, c, k, k)
        adjoint = y.reshape(1, n * m, *y.shape[2:])
        rows = y.reshape(n, m, -1)
        print(*("%.3e" % t for t in (
            seconds(lambda: F.conv2d(x, w, None, stride, pad)),
            seconds(lambda: conv2d_input(x.shape, w, y, stride, pad)),
            seconds(lambda: conv2d_weight(x, w.shape, y, stride, pad)),
            min(seconds(lambda: conv2d_weight(stacked, kernels.shape, adjoint, stride, pad,
                                              groups=n)),
                seconds(lambda: torch.bmm(rows, F.unfold(x, k, 1, pad, stride).mT))))))
