/* The window that Conv and the pools move over the last axes of their input. */
#ifndef NET_OPS_WINDOW_H
#define NET_OPS_WINDOW_H

#include "net/graph/operator.h"

/* Height, then width; of one spatial axis, the height is 1. Extents fit 32 bits. */
struct net_window {
    int64_t input[2], kernel[2], stride[2], dilation[2];
    int64_t before[2]; /* elements of padding */
    int64_t output[2];
    int64_t padded[2]; /* input and padding on both sides */
};

/*
 * From the shape of input 0 (N × C × spatial axes), `kernel` (null: the attribute kernel_shape) and
 * the attributes strides, dilations, pads, auto_pad, ceil_mode. With ceil_mode no window starts in
 * the padding at the end.
 */
int net_window_infer(const struct net_call *call, const int64_t *kernel, struct net_window *window,
                     struct ivon_error *error);

/* One axis of a window over any number of them. Extents fit 32 bits. */
struct net_window_axis {
    int64_t input, kernel, stride, dilation;
    int64_t before, after; /* elements of padding */
    int64_t output;
};

enum net_padding { NET_PADDING_EXPLICIT, NET_SAME_UPPER, NET_SAME_LOWER, NET_VALID };

/* Sets all of the axes of input 0 but `output`, from the attributes (`kernel` as above). `before`
   and `after` are the attribute pads, whatever auto_pad, *padding, says. */
int net_window_read(const struct net_call *call, const int64_t *kernel, enum net_padding *padding,
                    struct net_window_axis *axes, struct ivon_error *error);

/* net_window_infer for any number of axes. */
int net_window_infer_axes(const struct net_call *call, const int64_t *kernel,
                          struct net_window_axis *axes, struct ivon_error *error);

/* The part [*first, *last) of the kernel's taps along an axis that lies inside the input for output
   position `at`; *from is the input position of tap 0, which may be negative. */
static inline void net_window_axis_taps(const struct net_window_axis *axis, int64_t at,
                                        int64_t *first, int64_t *last, int64_t *from)
{
    int64_t start = at * axis->stride - axis->before;
    int64_t low = start < 0 ? -start : 0, high = start < axis->input ? axis->input - start : 0;
    if (axis->dilation != 1) { /* a division takes longer than all the rest */
        low = (low + axis->dilation - 1) / axis->dilation;
        high = (high + axis->dilation - 1) / axis->dilation;
    }
    *last = high < axis->kernel ? high : axis->kernel;
    *first = low < *last ? low : *last;
    *from = start;
}

/* The part [*first, *last) of `count` places, of which the first is at `start`, that lie in a row
   of `width` elements; false where none does. */
static inline bool net_window_clip(int64_t start, int64_t stride, int64_t width, int64_t count,
                                   size_t *first, size_t *last)
{
    int64_t end = start + (count - 1) * stride < width ? count
                                                       : (width - start + stride - 1) / stride;
    int64_t from = start < 0 ? (-start + stride - 1) / stride : 0;
    bool any = start < width && from < end;
    *first = any ? (size_t)from : 0;
    *last = any ? (size_t)end : 0;
    return any;
}

/* The taps of axis 0 or 1 of a window of two. */
static inline void net_window_taps(const struct net_window *window, int axis, int64_t at,
                                   int64_t *first, int64_t *last, int64_t *from)
{
    struct net_window_axis one = {.input = window->input[axis],
                                  .kernel = window->kernel[axis],
                                  .stride = window->stride[axis],
                                  .dilation = window->dilation[axis],
                                  .before = window->before[axis]};
    net_window_axis_taps(&one, at, first, last, from);
}

#endif
