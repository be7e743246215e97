// Sparse convolution and linear layers on a CPU, without im2col; bench/products/direct.py says how.
// Vectors are GCC's own, 16 floats: one register with AVX-512, two with AVX, four with NEON.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int LANES = 16;
constexpr int WIDEST = 4;  // vectors of a tile: sums that stay in registers
constexpr int TILE = WIDEST * LANES;
typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float Loose __attribute__((vector_size(4 * LANES), aligned(4)));

// Outputs that can share a list of entries, each input loaded once for all of them.
#ifdef __AVX512F__
constexpr int SHARING = 4;
#else
constexpr int SHARING = 1;  // sixteen sums of two or four registers would not stay in them
#endif

template <int V>
struct Entry {
    int32_t offset;  // of the input's number from that of the output's place, in the packed input
    float value[V];
};

}  // namespace

extern "C" int32_t sharing() { return SHARING; }

// As `Layer` in direct.py.
struct Layer {
    int32_t channels, height, width, outputs, out_height, out_width;
    int32_t stride_h, stride_w, pad_h, pad_w;
    int32_t packed, planes, used, strip, halo, pitch, plane, step, shared;
    const int32_t *phases, *channel, *ends;  // ends: of each list, one for `shared` outputs
    const void *entries;                     // of type Entry<shared>
    const float *bias;
    float low, high;
};

namespace {

Vec all(float value) { return value - (Vec){}; }

// The first n of 16 floats, and zeros.
Vec some(const float *from, int n) {
#ifdef __AVX512F__
    return (Vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), from);
#else
    Vec v = {};
    memcpy(&v, from, 4 * n);
    return v;
#endif
}

void put(float *to, Vec v, int n) {
#ifdef __AVX512F__
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << n) - 1), (__m512)v);
#else
    memcpy(to, &v, 4 * n);
#endif
}

// Every second number of 32.
Vec evens(Vec a, Vec b) {
#if __has_builtin(__builtin_shufflevector)
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#else
    Vec v;
    for (int i = 0; i < LANES; i++) v[i] = 2 * i < LANES ? a[2 * i] : b[2 * i - LANES];
    return v;
#endif
}

// n numbers, each `stride` from the next.
void copy(float *to, const float *from, int n, int stride) {
    int j = 0;
    if (stride == 1) {
        for (; j + LANES <= n; j += LANES) *(Loose *)(to + j) = *(const Loose *)(from + j);
        if (j < n) put(to + j, some(from + j, n - j), n - j);
        return;
    }
    if (stride == 2)
        for (; j < n; j += LANES) {
            int last = 2 * std::min(n - j, LANES) - 1;  // how many numbers there are to read
            Vec a = some(from + 2 * j, std::min(last, LANES));
            Vec b = some(from + 2 * j + LANES, std::max(0, last - LANES));
            put(to + j, evens(a, b), (last + 1) / 2);
        }
    for (; j < n; j++) to[j] = from[(int64_t)stride * j];
}

// Rows `first`.. of one channel's planes, padded: what a strip of the output reads.
void pack(const Layer &l, const float *x, float *to, int first, int rows) {
    for (int p = 0; p < l.planes; p++, to += l.plane) {
        int top = l.phases[2 * p] - l.pad_h, left = l.phases[2 * p + 1] - l.pad_w, s = l.stride_w;
        if (s == 1 && l.stride_h == 1 && left == 0 && top == 0 && l.pitch == l.width) {
            copy(to, x + (int64_t)first * l.width, rows * l.width, 1);
        } else {
            int begin = left < 0 ? (-left + s - 1) / s : 0;
            int end = std::max(begin, std::min(l.pitch, (l.width - left + s - 1) / s));
            for (int r = 0; r < rows; r++) {
                float *row = to + r * l.pitch;
                int at = l.stride_h * (first + r) + top;
                if (at < 0 || at >= l.height) {
                    memset(row, 0, 4 * l.pitch);
                    continue;
                }
                for (int j = 0; j < begin; j++) row[j] = 0;
                copy(row + begin, x + (int64_t)at * l.width + left + s * begin, end - begin, s);
                for (int j = end; j < l.pitch; j++) row[j] = 0;
            }
        }
        // what the last vector reads beyond
        memset(to + rows * l.pitch, 0, 4 * (l.pitch - l.out_width + LANES));
    }
}

// A tile: up to four vectors of places q0..q1 of a strip, from its row and column on.
struct Places {
    int q0, q1, row, column;
};

Vec bounded(const Layer &l, Vec v) {
    Vec low = all(l.low), high = all(l.high);
    v = v < low ? low : v;
    return v > high ? high : v;
}

// Write a tile; of each row of `pitch` places out_width are real.
template <int T>
void store(const Layer &l, const Vec *sums, Places p, float *y, const float *add) {
    if (l.pitch == l.out_width) {
        int64_t at = p.q0;
        for (int t = 0; t < T; t++, at += LANES) {
            int rest = std::min(p.q1 - (int)at, LANES);
            Vec v = bounded(l, add ? sums[t] + some(add + at, rest) : sums[t]);
            if (rest == LANES) *(Loose *)(y + at) = v;
            else put(y + at, v, rest);
        }
        return;
    }
    const float *from = (const float *)sums;
    for (int q = p.q0; q < p.q1; p.row++, p.column = 0) {
        int stop = std::min(p.q1, q + l.pitch - p.column);
        int n = std::min(stop - q, l.out_width - p.column);
        int64_t at = (int64_t)p.row * l.out_width + p.column;
        for (int j = 0; j < n; j += LANES) {
            int rest = std::min(n - j, LANES);
            Vec v = *(const Loose *)(from + (q - p.q0) + j);
            put(y + at + j, bounded(l, add ? v + some(add + at + j, rest) : v), rest);
        }
        q = stop;
    }
}

// Sums for T vectors of places and the lists g0..g1, of V outputs each, over the weights that are
// left. CUT: the last vector may not be read whole, since it ends with the input.
template <int T, bool CUT, int V>
void tile(const Layer &l, const float *input, Places p, int g0, int g1, float *y,
          const float *add) {
    int64_t area = (int64_t)l.out_height * l.out_width;
    constexpr int CHAINS = T * V >= 4 ? 1 : 4 / T;  // independent sums: an addition takes four cycles
    int rest = p.q1 - p.q0 - (T - 1) * LANES;
    for (int g = g0; g < g1; g++) {
        // one more: a row's end is read as a whole vector
        alignas(64) Vec sums[V][CHAINS * T + 1];
        for (int v = 0; v < V; v++)
            for (int t = 0; t < CHAINS * T; t++)
                sums[v][t] = all(t < T && l.bias ? l.bias[g * V + v] : 0);
        auto sum = [&](const Entry<V> &e, int c) {
            const float *from = input + p.q0 + e.offset;
            for (int t = 0; t < T; t++) {
                Vec x = CUT && t == T - 1 ? some(from + t * LANES, rest)
                                          : *(const Loose *)(from + t * LANES);
                for (int v = 0; v < V; v++) sums[v][c * T + t] += e.value[v] * x;
            }
        };
        const Entry<V> *entries = (const Entry<V> *)l.entries;
        const Entry<V> *e = entries + l.ends[g], *end = entries + l.ends[g + 1];
        for (; e + CHAINS <= end; e += CHAINS)
            for (int c = 0; c < CHAINS; c++) sum(e[c], c);
        for (; e < end; e++) sum(*e, 0);
        for (int v = 0; v < V; v++) {
            for (int c = 1; c < CHAINS; c++)
                for (int t = 0; t < T; t++) sums[v][t] += sums[v][c * T + t];
            int64_t at = (g * V + v) * area;
            store<T>(l, sums[v], p, y + at, add ? add + at : nullptr);
        }
    }
}

typedef void (*Tile)(const Layer &, const float *, Places, int, int, float *, const float *);
template <int V>
constexpr Tile TILES[2][WIDEST] = {
    {tile<1, false, V>, tile<2, false, V>, tile<3, false, V>, tile<4, false, V>},
    {tile<1, true, V>, tile<2, true, V>, tile<3, true, V>, tile<4, true, V>}};

struct Free {
    void operator()(float *at) const { free(at); }
};

// The thread's own, as long as it lives.
float *scratch(int64_t floats) {
    static thread_local std::unique_ptr<float, Free> at;
    static thread_local int64_t size = 0;
    if (floats > size) {
        at.reset();
        size = floats + floats / 4;
        at.reset((float *)aligned_alloc(64, (4 * size + 63) / 64 * 64));
        if (!at) size = 0;
    }
    return at.get();
}

}  // namespace

// (batch, channels, height, width) to (batch, outputs, out_height, out_width), bias, `add` (like y;
// may be null) and bounds included. 1 if memory ran out.
//
// A thread packs what it computes, so that none waits for another, or reads what lies in another
// one's cache: a range of rows (of tiles, where nothing is packed) with all outputs or, of maps too
// small to be cut, all of it for a part of the outputs.
extern "C" int convolve(const Layer *layer, const float *x, float *y, const float *add,
                        int32_t batch, int32_t threads) {
    const Layer &l = *layer;
    const int64_t inputs = (int64_t)l.height * l.width;
    const int64_t area = (int64_t)l.out_height * l.out_width;
    const int lists = l.outputs / l.shared;
    const auto &tiles = l.shared == SHARING ? TILES<SHARING> : TILES<1>;
    const int whole = l.out_height * l.pitch;
    const int units = l.packed ? l.out_height : (whole + TILE - 1) / TILE;
    const int fewest = l.packed ? (l.out_height + l.strip - 1) / l.strip : 1;
    const int least = l.packed ? (TILE + l.pitch - 1) / l.pitch : 1;  // units that fill a tile
    int ranges = batch % threads ? (fewest + threads - 1) / threads * threads : fewest;
    ranges = std::max(fewest, std::min(ranges, units / least));
    const int parts = std::min(lists, (threads + batch * ranges - 1) / (batch * ranges));
    int failed = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : failed)
    for (int job = 0; job < batch * ranges * parts; job++) {
        const int part = job % parts, range = job / parts % ranges, n = job / parts / ranges;
        const int first = (int64_t)units * range / ranges;
        const int last = (int64_t)units * (range + 1) / ranges;
        const int g0 = (int64_t)lists * part / parts, g1 = (int64_t)lists * (part + 1) / parts;
        const float *input = x + n * l.channels * inputs;
        int64_t at = n * l.outputs * area;
        int begin = first * TILE, end = std::min(whole, last * TILE);
        if (l.packed) {
            float *packed = scratch((int64_t)l.used * l.step + 1);
            if (!packed) {
                failed = 1;
                continue;
            }
            for (int c = 0; c < l.used; c++)
                pack(l, input + l.channel[c] * inputs, packed + (int64_t)c * l.step, first,
                     last - first + l.halo);
            input = packed;
            at += (int64_t)first * l.out_width;
            begin = 0, end = (last - first) * l.pitch;
        }
        for (int q = begin; q < end; q += TILE) {
            Places p = {q, std::min(end, q + TILE), q / l.pitch, q % l.pitch};
            const bool cut = !l.packed && (p.q1 - q) % LANES;
            tiles[cut][(p.q1 - q + LANES - 1) / LANES - 1](l, input, p, g0, g1, y + at,
                                                           add ? add + at : nullptr);
        }
    }
    return failed;
}

namespace {

template <int V>
void gathered(const Layer &l, const float *x, float *y, int32_t batch, int32_t threads) {
    const Entry<V> *entries = (const Entry<V> *)l.entries;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int g = 0; g < l.outputs / V; g++)
        for (int n = 0; n < batch; n++) {
            const float *row = x + (int64_t)n * l.channels;
            float sums[V] = {};
#pragma omp simd reduction(+ : sums[:V])
            for (int i = l.ends[g]; i < l.ends[g + 1]; i++)
                for (int v = 0; v < V; v++) sums[v] += entries[i].value[v] * row[entries[i].offset];
            for (int v = 0; v < V; v++) {
                int o = g * V + v;
                float sum = sums[v] + (l.bias ? l.bias[o] : 0);
                y[(int64_t)n * l.outputs + o] = std::min(std::max(sum, l.low), l.high);
            }
        }
}

}  // namespace

// (batch, inputs) to (batch, outputs), for few rows: a gather for each output. An entry's offset is
// the number of its input.
extern "C" void gather(const Layer *layer, const float *x, float *y, int32_t batch,
                       int32_t threads) {
    (layer->shared == SHARING ? gathered<SHARING> : gathered<1>)(*layer, x, y, batch, threads);
}
