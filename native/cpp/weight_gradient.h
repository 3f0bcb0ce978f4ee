// The gradient of a convolution's weights: the sum over pixels of an input times an output
// gradient. One of the two is walked through bit by bit, value by value where it is not zero; the
// other is read in vectors of channels.
#pragma once

#include "grid.h"

namespace ride::RIDE_ISA {

constexpr int tile_rows = 4, tile_columns = 32;

// The masks of 32 pixels of a row, 16 channels each, to one word a channel.
RIDE_INLINE void transpose_bits(const uint16_t* mask, uint32_t* words, int stride) {
#if defined(__AVX512BW__)
    __m512i bits = _mm512_loadu_si512(mask);
    for (int channel = 15; channel >= 0; channel--) {
        words[channel * stride] = _mm512_movepi16_mask(bits);
        bits = _mm512_add_epi16(bits, bits);
    }
#else
    for (int half = 0; half < 2; half++) {
        uint8_t bytes[16][4];
        for (int eight = 0; eight < 4; eight++) {
            uint64_t block = 0;
            for (int i = 0; i < 8; i++)
                block |= uint64_t((mask[eight * 8 + i] >> (half * 8)) & 0xFF) << (8 * i);
            // Transpose 8×8 bits (Warren, "Hacker's Delight", 7-3).
            uint64_t t = (block ^ (block >> 7)) & 0x00AA00AA00AA00AAu;
            block ^= t ^ (t << 7);
            t = (block ^ (block >> 14)) & 0x0000CCCC0000CCCCu;
            block ^= t ^ (t << 14);
            t = (block ^ (block >> 28)) & 0x00000000F0F0F0F0u;
            block ^= t ^ (t << 28);
            for (int i = 0; i < 8; i++) bytes[i][eight] = uint8_t(block >> (8 * i));
        }
        for (int i = 0; i < 8; i++)
            std::memcpy(words + (half * 8 + i) * stride, bytes[i], 4);
    }
#endif
}

// Part of a map: where its first pixel lies, and pixels from a row to the next.
struct View {
    const float* values;
    int row;
};

// One of `shares` equal parts of some rows of a tile, into the second-level cache.
RIDE_INLINE void prefetch_share(const View& tile, int rows, int channels, int share, int shares) {
    const int part = tile_columns * channels / shares;
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < part; i += 16)
            prefetch_far(tile.values + size_t(r) * tile.row * channels + share * part + i);
}

struct Tile {
    View dense, sparse;  // `dense` begins one pixel up and left of `sparse`
    int dense_channels, sparse_channels;
};

// The weight gradient of a tile whose masks are transposed; meanwhile the next tile is fetched.
template <int vectors, int groups>
RIDE_INLINE void tile_gradient(const Tile& tile, const Tile* next, const uint32_t* words,
                               float* gradient) {
    constexpr int width = vectors * lanes;
    const View dense = tile.dense, sparse = tile.sparse;
    const int sparse_channels = groups ? groups * 16 : tile.sparse_channels;
    const ptrdiff_t dense_step = groups ? groups * 16 : tile.dense_channels;
    const ptrdiff_t sparse_step = sparse_channels;
    for (int channel = 0; channel < dense_step; channel += width) {
        const float* lines[3];
        repeat<3>(RIDE_EACH(i) {
            lines[i] = dense.values + (ptrdiff_t(i) * dense.row + 1) * dense_step + channel;
        });
        for (int s = 0; s < sparse_channels; s++, gradient += 9 * width) {
            if (next) {
                prefetch_share(next->dense, tile_rows + 2, int(dense_step), s, sparse_channels);
                prefetch_share(next->sparse, tile_rows, sparse_channels, s, sparse_channels);
            }
            Vec total[9 * vectors];
            repeat<9 * vectors>(RIDE_EACH(k) { total[k] = load(gradient + k * lanes); });
            for (int r = 0; r < tile_rows; r += 2) {
                uint64_t bits;
                std::memcpy(&bits, words + s * tile_rows + r, 8);
                while (bits) {
                    const ptrdiff_t bit = __builtin_ctzll(bits);
                    bits &= bits - 1;
                    const ptrdiff_t y = r + (bit >> 5), x = bit & 31;
                    const Vec value = splat(sparse.values[(y * sparse.row + x) * sparse_step + s]);
                    const ptrdiff_t at = (y * dense.row + x) * dense_step;
                    repeat<3>(RIDE_EACH(i) {
                        const float* line = whole(lines[i] + at);
                        repeat<3>(RIDE_EACH(j) {
                            repeat<vectors>(RIDE_EACH(v) {
                                total[(i * 3 + j) * vectors + v] +=
                                    value * load(line + (j - 1) * dense_step + v * lanes);
                            });
                        });
                    });
                }
            }
            repeat<9 * vectors>(RIDE_EACH(k) { store(gradient + k * lanes, total[k]); });
        }
    }
}

// gradient[pass over dense channels][sparse channel][tap][channels of the pass] += Σ over pixels p:
// sparse[p] · dense[p + tap], over these rows, which are whole tiles or reach the last. `words` has
// room for tile_rows words a sparse channel. `groups`: of 16 channels of both, where they are equal
// and that is known when compiling, else 0.
template <int vectors, int groups>
__attribute__((noinline)) void weight_gradient(const Grid& grid, const Map& dense,
                                               const Map& sparse, Rows range, float* gradient,
                                               uint32_t* words) {
    const bool large = grid.is_large(dense.channels);
    auto tile_at = [&](int y, int x) -> Tile {
        return {{dense.at(grid, y, x) - ptrdiff_t(grid.row + 1) * dense.channels, grid.row},
                {sparse.at(grid, y, x), grid.row},
                dense.channels,
                sparse.channels};
    };
    for (int y = range.begin; y < range.end; y += tile_rows) {
        for (int x = 0; x < grid.width; x += tile_columns) {
            // Rows below the last are zero in every mask.
            for (int group = 0; group < sparse.channels / 16; group++)
                for (int r = 0; r < tile_rows; r++)
                    transpose_bits(sparse.mask + size_t(group) * grid.mask_plane +
                                       grid.mask_at(y + r, x),
                                   words + group * 16 * tile_rows + r, tile_rows);
            const Tile tile = tile_at(y, x);
            const bool last = x + tile_columns >= grid.width;
            const Tile next = last ? tile_at(y + tile_rows, 0) : tile_at(y, x + tile_columns);
            tile_gradient<vectors, groups>(tile, large ? &next : nullptr, words, gradient);
        }
    }
}

template <int vectors>
RIDE_INLINE void sum_weight_gradient(const Grid& grid, const Map& dense, const Map& sparse,
                                     Rows range, float* gradient, uint32_t* words) {
    if (dense.channels == 16 && sparse.channels == 16)
        weight_gradient<vectors, 1>(grid, dense, sparse, range, gradient, words);
    else if (dense.channels == 32 && sparse.channels == 32)
        weight_gradient<vectors, 2>(grid, dense, sparse, range, gradient, words);
    else
        weight_gradient<vectors, 0>(grid, dense, sparse, range, gradient, words);
}

// That of the first layer, whose input has few channels and no zeros:
// gradient[pass over dense channels][input channel][tap][channels of the pass], tap as in a forward
// convolution: Σ over p: input[p - tap] · dense[p].
template <int vectors>
__attribute__((noinline)) void first_weight_gradient(const Grid& grid, const Map& dense,
                                                     const float* inputs, int channels,
                                                     Rows range, float* gradient) {
    constexpr int width = vectors * lanes;
    for (int channel = 0; channel < dense.channels; channel += width)
        for (int i = 0; i < channels; i++, gradient += 9 * width) {
            Vec total[9 * vectors];
            repeat<9 * vectors>(RIDE_EACH(k) { total[k] = load(gradient + k * lanes); });
            for (int y = range.begin; y < range.end; y++) {
                const float* at = dense.at(grid, y, 0) + channel;
                const float* from = inputs + grid.at(y, 0) * channels + i;
                const ptrdiff_t row = ptrdiff_t(grid.row) * channels;
                for (int x = 0; x < grid.width; x++) {
                    Vec value[vectors];
                    repeat<vectors>(RIDE_EACH(v) { value[v] = load(at + v * lanes); });
                    repeat<9>(RIDE_EACH(t) {
                        const Vec input = splat(from[-(t / 3 - 1) * row - (t % 3 - 1) * channels]);
                        repeat<vectors>(RIDE_EACH(v) {
                            total[t * vectors + v] += input * value[v];
                        });
                    });
                    at += dense.channels;
                    from += channels;
                }
            }
            repeat<9 * vectors>(RIDE_EACH(k) { store(gradient + k * lanes, total[k]); });
        }
}

}  // namespace ride::RIDE_ISA
