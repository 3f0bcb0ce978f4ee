// How activations and gradients lie in memory: pixel after pixel with a border of zeros, each pixel
// its channels; and beside them one bit a channel, whether it is nonzero.
#pragma once

#include "plan.h"
#include "simd.h"

namespace ride::RIDE_ISA {

struct Grid {
    int height, width;
    int row;         // pixels from a row to the next, border included
    int mask_row;    // the same in a mask: rounded up to 32, without border
    int mask_plane;  // half-words from 16 channels to the next 16

    explicit Grid(const Plan& plan)
        : height(plan.height),
          width(plan.width),
          row(plan.width + 2),
          mask_row((plan.width + 31) / 32 * 32),
          // Room for the rows below the last that a tile of four rows looks at.
          mask_plane((plan.height + 4) * mask_row) {}

    RIDE_INLINE int pixels() const { return height * width; }
    RIDE_INLINE size_t at(int y, int x) const { return size_t(y + 1) * row + (x + 1); }
    RIDE_INLINE size_t mask_at(int y, int x) const { return size_t(y) * mask_row + x; }
    size_t values(int rows, int channels) const { return size_t(rows + 2) * row * channels; }
    // Whether a map is too large to stay in a second-level cache from one layer to the next.
    bool is_large(int channels) const { return values(height, channels) * 4 > size_t(1) << 19; }
    size_t masks(int channels) const { return size_t(channels / 16) * mask_plane; }
};

// Rows from `begin` to before `end`.
struct Rows {
    int begin, end;
};

struct Map {
    float* values;   // [rows kept + 2, width + 2, channels]
    uint16_t* mask;  // [channels / 16, mask_plane]
    int channels;
    // -1 where all rows are kept. Of fewer, a power of two of rows, it is one less than their number:
    // row y takes the place of row y - rows. The border then repeats the rows that it would lie
    // beside, so that four rows from a multiple of four on have their neighbours beside them.
    int wrap;

    RIDE_INLINE float* at(const Grid& grid, int y, int x) const {
        return values + grid.at(y & wrap, x) * channels;
    }
};

// Output channels are computed in passes of `vectors` vectors: as many as nine, or eighteen,
// accumulators have registers for.
RIDE_INLINE int vectors_of_pass(int channels) {
    if (lanes == 4) return 2;
    return lanes == 16 && channels % 32 == 0 ? 2 : 1;
}

// A pass's bits lie in one half-word, or in one for each of its vectors: calls
// f(half-word, its first vector, its vectors).
template <int vectors, class F>
RIDE_INLINE void for_halves(F&& f) {
    constexpr int count = vectors * lanes > 16 ? 16 / lanes : vectors;
    repeat<vectors / count>(RIDE_EACH(half) {
        f(half, std::integral_constant<int, half * count>{}, std::integral_constant<int, count>{});
    });
}

// Eight or sixteen bits of a half-word, from bit `shift` on.
template <int width>
RIDE_INLINE uint32_t get_bits(const uint16_t* half, int shift) {
    static_assert(width == 8 || width == 16);
    return width == 16 ? *half : (*half >> shift) & 0xFF;
}

template <int width>
RIDE_INLINE void put_bits(uint16_t* half, int shift, uint32_t bits) {
    *half = width == 16 ? uint16_t(bits) : uint16_t((*half & ~(0xFF << shift)) | bits << shift);
}

// After rows of a map that keeps few were written: brings its border up to date.
inline void repeat_rows(const Grid& grid, const Map& map, Rows written) {
    const size_t row = size_t(grid.row) * map.channels;
    auto line = [&](int i) { return map.values + size_t(i + 1) * row; };
    if (written.begin == 0) std::memset(line(-1), 0, row * 4);
    for (int y = written.begin; y < written.end; y++) {
        if ((y & map.wrap) == 0) std::memcpy(line(map.wrap + 1), line(0), row * 4);
        if ((y & map.wrap) == map.wrap) std::memcpy(line(-1), line(map.wrap), row * 4);
    }
    const int last = (grid.height - 1) & map.wrap;
    if (written.end == grid.height) std::memset(line(last + 1), 0, row * 4);
}

inline int64_t count_bits(const Grid& grid, const Map& map) {
    int64_t count = 0;
    for (int group = 0; group < map.channels / 16; group++) {
        const uint16_t* mask = map.mask + size_t(group) * grid.mask_plane;
        for (int i = 0; i < grid.height * grid.mask_row; i += 4) {
            uint64_t four;
            std::memcpy(&four, mask + i, 8);
            count += __builtin_popcountll(four);
        }
    }
    return count;
}

inline void clear_border(const Grid& grid, const Map& map) {
    const size_t row = size_t(grid.row) * map.channels, pixel = size_t(map.channels);
    std::memset(map.values, 0, row * 4);
    std::memset(map.values + (grid.height + 1) * row, 0, row * 4);
    for (int y = 1; y <= grid.height; y++) {
        std::memset(map.values + y * row, 0, pixel * 4);
        std::memset(map.values + (y + 1) * row - pixel, 0, pixel * 4);
    }
}

}  // namespace ride::RIDE_ISA
