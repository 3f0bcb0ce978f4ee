// The few vector operations that the kernels need, for the widest registers that this translation
// unit may use: 16, 8 or 4 lanes of 32 bits. GCC's and Clang's vector extensions give arithmetic,
// comparison and selection; what they cannot say is an intrinsic, or a loop over lanes.
//
// Everything here and in the other kernel headers lives in a namespace of its own for each
// instruction set, is inlined, and uses no standard containers: the linker keeps one copy of an
// inline function of the library, and it might keep the one that was compiled for AVX-512.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#define RIDE_INLINE inline __attribute__((always_inline))

namespace ride::RIDE_ISA {

#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX2__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * lanes)));
typedef int32_t Ints __attribute__((vector_size(4 * lanes)));
typedef uint32_t Words __attribute__((vector_size(4 * lanes)));
typedef float VecAnywhere __attribute__((vector_size(4 * lanes), aligned(4), may_alias));
typedef float VecInPlace __attribute__((vector_size(4 * lanes), may_alias));
typedef uint32_t WordsAnywhere __attribute__((vector_size(4 * lanes), aligned(2), may_alias));

// Calls f with the compile-time constants 0 … n-1. Accumulators that are indexed by such constants
// stay in registers; indexed by the counter of an unrolled loop, GCC leaves them on the stack.
template <class F, int... i>
RIDE_INLINE void repeat_each(F&& f, std::integer_sequence<int, i...>) {
    (f(std::integral_constant<int, i>{}), ...);
}
template <int n, class F>
RIDE_INLINE void repeat(F&& f) {
    repeat_each(f, std::make_integer_sequence<int, n>{});
}
#define RIDE_LAMBDA __attribute__((always_inline))
#define RIDE_EACH(i) [&](auto i) RIDE_LAMBDA

// Aligned to a whole vector, as all activations and weights are; a load across two cache lines
// would take two of the two loads a cycle that bound these kernels.
RIDE_INLINE Vec load(const float* from) { return *reinterpret_cast<const VecInPlace*>(from); }
RIDE_INLINE void store(float* to, Vec value) { *reinterpret_cast<VecInPlace*>(to) = value; }
RIDE_INLINE void store_anywhere(float* to, Vec value) {
    *reinterpret_cast<VecAnywhere*>(to) = value;
}
RIDE_INLINE void store_anywhere(void* to, Words value) {
    *reinterpret_cast<WordsAnywhere*>(to) = value;
}
RIDE_INLINE Words load_words(const void* from) {
    return *reinterpret_cast<const WordsAnywhere*>(from);
}

// An address that the compiler does not take apart: left alone, GCC forms eighteen addresses with
// more instructions than there are multiply-adds.
RIDE_INLINE const float* whole(const float* address) {
    asm("" : "+r"(address));
    return address;
}

// Into the second-level cache, and into the first, to be read or written.
RIDE_INLINE void prefetch_far(const void* at) { __builtin_prefetch(at, 0, 2); }
RIDE_INLINE void prefetch(const void* at) { __builtin_prefetch(at, 0, 3); }
RIDE_INLINE void prefetch_to_write(void* at) { __builtin_prefetch(at, 1, 3); }

// A counter of constant rate, cheap to read.
RIDE_INLINE int64_t clock_ticks() {
#if defined(__x86_64__)
    return int64_t(__builtin_ia32_rdtsc());
#elif defined(__aarch64__)
    int64_t ticks;
    asm volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return 0;
#endif
}

RIDE_INLINE Vec splat(float value) { return value - Vec{}; }
RIDE_INLINE Words splat_word(uint32_t value) { return value - Words{}; }
RIDE_INLINE Words lane_numbers() {
    alignas(64) static const uint32_t numbers[] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                   8, 9, 10, 11, 12, 13, 14, 15};
    return load_words(numbers);
}

RIDE_INLINE Vec as_floats(Words bits) { return reinterpret_cast<Vec>(bits); }
RIDE_INLINE Words as_words(Vec value) { return reinterpret_cast<Words>(value); }
// Of words below 2^31.
RIDE_INLINE Vec to_floats(Words value) {
    return __builtin_convertvector(reinterpret_cast<Ints>(value), Vec);
}

// One bit a lane: where the value is positive, or not a number (so that it is seen to the end).
RIDE_INLINE uint32_t positive_lanes(Vec value) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask(value, Vec{}, _CMP_NLE_UQ);
#elif defined(__AVX2__)
    return _mm256_movemask_ps(_mm256_cmp_ps(value, Vec{}, _CMP_NLE_UQ));
#elif defined(__SSE2__)
    return _mm_movemask_ps(_mm_cmpnle_ps(value, Vec{}));
#else
    uint32_t bits = 0;
    for (int i = 0; i < lanes; i++) bits |= uint32_t(!(value[i] <= 0)) << i;
    return bits;
#endif
}

RIDE_INLINE uint32_t nonzero_lanes(Vec value) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask(value, Vec{}, _CMP_NEQ_UQ);
#elif defined(__AVX2__)
    return _mm256_movemask_ps(_mm256_cmp_ps(value, Vec{}, _CMP_NEQ_UQ));
#elif defined(__SSE2__)
    return _mm_movemask_ps(_mm_cmpneq_ps(value, Vec{}));
#else
    uint32_t bits = 0;
    for (int i = 0; i < lanes; i++) bits |= uint32_t(!(value[i] == 0)) << i;
    return bits;
#endif
}

RIDE_INLINE uint32_t lanes_below(Words value, uint32_t bound) {
#if defined(__AVX512F__)
    return _mm512_cmplt_epu32_mask((__m512i)value, _mm512_set1_epi32(int(bound)));
#else
    uint32_t bits = 0;
    for (int i = 0; i < lanes; i++) bits |= uint32_t(value[i] < bound) << i;
    return bits;
#endif
}

// The lanes whose bit is set; zero in the others.
RIDE_INLINE Vec only(Vec value, uint32_t bits) {
#if defined(__AVX512F__)
    return _mm512_maskz_mov_ps(__mmask16(bits), value);
#else
    const Words of_lane = splat_word(1) << lane_numbers();
    const Ints chosen = (splat_word(bits) & of_lane) != Words{};
    return as_floats(as_words(value) & reinterpret_cast<Words>(chosen));
#endif
}

RIDE_INLINE Vec square_root(Vec value) {
#if defined(__AVX512F__)
    return _mm512_sqrt_ps(value);
#elif defined(__AVX2__)
    return _mm256_sqrt_ps(value);
#elif defined(__SSE2__)
    return _mm_sqrt_ps(value);
#else
    for (int i = 0; i < lanes; i++) value[i] = __builtin_sqrtf(value[i]);
    return value;
#endif
}

// a / b to about a rounding, for normal b, in a third of the time of a division: one Newton step for
// the reciprocal, which begins with 14 bits, and one for the quotient.
RIDE_INLINE Vec quotient(Vec a, Vec b) {
#if defined(__AVX512F__)
    Vec inverse = _mm512_rcp14_ps(b);
    inverse += inverse * (1.0f - b * inverse);
    const Vec estimate = a * inverse;
    return estimate + inverse * (a - b * estimate);
#else
    return a / b;
#endif
}

RIDE_INLINE Vec maximum(Vec left, Vec right) { return left > right ? left : right; }

RIDE_INLINE float sum(Vec value) {
    // Halves are added to halves, so that the order is the same whatever the compiler does.
    float parts[lanes];
    std::memcpy(parts, &value, sizeof parts);
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps(value);
#else
    for (int half = lanes / 2; half; half /= 2)
        for (int i = 0; i < half; i++) parts[i] += parts[i + half];
    return parts[0];
#endif
}

// Both halves of the 64-bit products of each lane with a constant.
RIDE_INLINE void multiply_wide(Words value, uint32_t factor, Words& high, Words& low) {
#if defined(__AVX512F__)
    const __m512i by = _mm512_set1_epi32(int(factor)), v = (__m512i)value;
    const __m512i even = _mm512_mul_epu32(v, by);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(v, 32), by);
    low = (Words)_mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
    high = (Words)_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
#elif defined(__AVX2__)
    const __m256i by = _mm256_set1_epi32(int(factor)), v = (__m256i)value;
    const __m256i even = _mm256_mul_epu32(v, by);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(v, 32), by);
    low = (Words)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    high = (Words)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
#else
    for (int i = 0; i < lanes; i++) {
        const uint64_t product = uint64_t(value[i]) * factor;
        high[i] = uint32_t(product >> 32);
        low[i] = uint32_t(product);
    }
#endif
}

// The lanes of two vectors in turn, from lane `from` on.
template <int from, int... i>
RIDE_INLINE Vec interleave(Vec left, Vec right, std::integer_sequence<int, i...>) {
    return __builtin_shufflevector(left, right, (from + i / 2 + i % 2 * lanes)...);
}

// Transposes as many vectors as they have lanes: in each round, vector i and vector i + lanes/2
// become two neighbours that hold their lanes in turn.
RIDE_INLINE void transpose(Vec (&rows)[lanes]) {
    constexpr std::make_integer_sequence<int, lanes> all;
    constexpr int half = lanes / 2, rounds = lanes == 16 ? 4 : lanes == 8 ? 3 : 2;
    repeat<rounds>([&](auto) RIDE_LAMBDA {
        Vec mixed[lanes];
        repeat<half>(RIDE_EACH(i) {
            mixed[2 * i] = interleave<0>(rows[i], rows[i + half], all);
            mixed[2 * i + 1] = interleave<half>(rows[i], rows[i + half], all);
        });
        repeat<lanes>(RIDE_EACH(i) { rows[i] = mixed[i]; });
    });
}

}  // namespace ride::RIDE_ISA
