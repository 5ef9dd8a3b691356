"""im2col: what a kernel sees of the image at a pixel, side by side as a row of a matrix.

A convolution is then a product of matrices: the rows, one for each pixel, times the weights, a
column for each output. The whole matrix would be as many times larger than the image as the kernel
has taps; here it is made block by block, of some pixels and part of the depth (tap, channel), where
`gathered_product` needs it.
"""

from .compilation import inline
from .micro_kernel import clear_woven, copy, copy_woven
from .simd import lanes, prefetch

# Pixels of so many channels lie so far apart that they are fetched some pixels ahead, too.
FAR_CHANNELS = 1024
PREFETCH_PIXELS = 6


@inline
def gather_rows(x, x_shape, image, first_channel, channels, first_pixel, pixels, grid_w, in_step,
                taps, k_start, k_stop, rows, row_size, tile_rows):
    """Row i of `rows` is x at taps k // channels, channels k % channels, of pixel i.

    Pixels count along the grid's rows; `first_channel` begins the group's `channels`. The rows are
    `row_size` numbers long, woven for `tile_rows` or, where that is 0, one after the other.
    """
    height, width, depth = x_shape[1], x_shape[2], x_shape[3]
    q_y = first_pixel // grid_w
    q_x = first_pixel - q_y * grid_w
    i = 0
    while i < pixels:  # stretches of pixels side by side
        length = min(grid_w - q_x, pixels - i)
        k = k_start
        tap = k_start // channels
        c = k_start - tap * channels
        while k < k_stop:
            # Taps that are neighbours in a row of the image are one run of numbers there.
            count = min(channels - c, k_stop - k)
            last = tap
            while (
                channels == depth
                and k + count < k_stop
                and taps[last + 1, 0] == taps[tap, 0]
                and taps[last + 1, 1] == taps[last, 1] + 1
            ):
                last += 1
                count += min(channels, k_stop - k - count)
            at_y = q_y * in_step[0] + taps[tap, 0]
            line = (image * height + at_y) * width
            for j in range(length):
                row = (i + j) * row_size
                if tile_rows > 0:
                    lane = (i + j) % tile_rows
                    row += lane * (lanes(rows) - row_size)
                at_x = (q_x + j) * in_step[1] + taps[tap, 1]
                if 0 <= at_y < height and 0 <= at_x and at_x + last - tap < width:
                    source = (line + at_x) * depth + first_channel + c
                    if depth >= FAR_CHANNELS:
                        ahead = source + PREFETCH_PIXELS * in_step[1] * depth
                        for line_start in range(0, count, lanes(x)):
                            prefetch(x, ahead + line_start)
                    if tile_rows > 0:
                        copy_woven(x, source, rows, row, tile_rows, k - k_start, count)
                    else:
                        copy(x, source, rows, row + k - k_start, count)
                else:
                    _gather_border(x, line, 0 <= at_y < height, at_x, width, depth, first_channel,
                                   channels, c, rows, row, k - k_start, count, tile_rows)
            k += count
            tap = last + 1
            c = 0
        i += length
        q_x = 0
        q_y += 1


@inline
def _gather_border(x, line, inside, at_x, width, depth, first_channel, channels, c, rows, row, k,
                   count, tile_rows):
    """Part of `gather_rows` for a run that leaves the image: zeros where it does."""
    while count > 0:
        number = min(channels - c, count)
        source = (line + at_x) * depth + first_channel + c
        if inside and 0 <= at_x < width:
            if tile_rows > 0:
                copy_woven(x, source, rows, row, tile_rows, k, number)
            else:
                copy(x, source, rows, row + k, number)
        elif tile_rows > 0:
            clear_woven(rows, row, tile_rows, k, number)
        else:
            rows[row + k : row + k + number] = 0.0
        k += number
        count -= number
        at_x += 1
        c = 0
