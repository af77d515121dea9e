// The Ornstein-Uhlenbeck process by Euler-Maruyama, as a careful C++ programmer writes it: the same
// Philox4x32-10 and the same polynomials as kernels/sdekit_kernels/philox/_numba.py, one Philox call
// for four steps of a path, all paths in float32.
//
//     g++ -O3 -march=native -fopenmp -ffp-contract=off -fno-math-errno -fno-trapping-math
//         -shared -fPIC trajectory.cpp -o trajectory.so
//
// Fused multiply-adds are written out, nothing else is contracted, so the normals have the bits that
// sdekit's have. The last two -f flags only tell the compiler that nobody reads errno or the
// floating-point exception flags: without them it vectorizes neither sqrt nor selects.
// Kept in one loop, the states and the words never leave the registers between two rounds.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr uint32_t M0 = 0xD2511F53u, M1 = 0xCD9E8D57u, W0 = 0x9E3779B9u, W1 = 0xBB67AE85u;
constexpr uint32_t HALF_WORD = 3037000500u, HALF_BITS = 0x3F3504F3u;
constexpr int64_t BLOCK = 1024;  // paths a turn: 4 KiB of states stay in the first-level cache

inline uint32_t bits(float x) {
    uint32_t u;
    std::memcpy(&u, &x, 4);
    return u;
}

inline float number(uint32_t u) {
    float x;
    std::memcpy(&x, &u, 4);
    return x;
}

inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

inline void round_of(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3, uint32_t k0,
                     uint32_t k1) {
    const uint64_t p0 = static_cast<uint64_t>(M0) * c0, p1 = static_cast<uint64_t>(M1) * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
}

// sqrt(-2 ln u), u = (w + 1/2) 2^-32.
inline float radius(uint32_t w) {
    const bool near_one = w >= HALF_WORD;
    const float y = fma(static_cast<float>(near_one ? ~w : w), 0x1p-32f, 0x1p-33f);
    const int32_t k = static_cast<int32_t>(bits(y) - HALF_BITS) >> 23;
    const float m = number(bits(y) - (static_cast<uint32_t>(k) << 23));
    const float e = near_one ? 0.0f : static_cast<float>(k);
    const float f = near_one ? -y : m - 1.0f;
    float p = fma(-0.17469676920874295022f, f, 0.28615038265971264718f);
    p = fma(p, f, -0.29835947997425542411f);
    p = fma(p, f, 0.33141017072078838005f);
    p = fma(p, f, -0.39924144287501891661f);
    p = fma(p, f, 0.50003510483269276018f);
    p = fma(p, f, -0.66667900441942387352f);
    p = fma(p, f, 0.99999983212936454729f);
    return __builtin_sqrtf(fma(f * f, p, fma(e, -1.3862943611198906f, -2.0f * f)));
}

// Two normals of two words (Box & Muller 1958), the angle's quadrant from the top bits.
inline void pair(uint32_t w0, uint32_t w1, float& z0, float& z1) {
    const float r = radius(w0);
    const uint32_t v = w1 + (1u << 29);
    const float a = static_cast<float>(static_cast<int32_t>(w1 << 2)) * 0x1p-31f;
    const float t = a * a;
    float s = fma(-0.000035950452251930326368f, t, 0.0024900010240289619437f);
    s = a * fma(fma(s, t, -0.080745432529154931223f), t, 0.78539816085417466808f);
    float c = fma(3.5303380568529241766e-6f, t, -0.0003259400798657603532f);
    c = fma(fma(fma(c, t, 0.0158543266228460161f), t, -0.30842513564941795836f), t, 1.0f);
    const bool swap = (v & (1u << 30)) != 0;
    const float x = swap ? s : c, y = swap ? c : s;
    z0 = r * number(bits(x) ^ ((v + (1u << 30)) & (1u << 31)));
    z1 = r * number(bits(y) ^ (v & (1u << 31)));
}

// Normals of the steps 4 j, ..., 4 j + 3 of one path.
inline void four(uint32_t j, uint64_t sample, uint32_t k0, uint32_t k1, float z[4]) {
    uint32_t c0 = 0, c1 = j, c2 = static_cast<uint32_t>(sample),
             c3 = static_cast<uint32_t>(sample >> 32);
    for (int i = 0; i < 10; ++i) round_of(c0, c1, c2, c3, k0 + i * W0, k1 + i * W1);
    pair(c0, c1, z[0], z[1]);
    pair(c2, c3, z[2], z[3]);
}

}  // namespace

// x[i], i < n: the state of path first + i; `steps` steps from number `begin` on,
// x + a (mu - x) + c z with a = theta dt, c = sigma sqrt(dt).
extern "C" void ou(float* x, int64_t n, uint64_t first, uint32_t begin, uint32_t steps, uint32_t k0,
                   uint32_t k1, float a, float mu, float c, int threads) {
    const uint32_t end = begin + steps;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t b = 0; b < n; b += BLOCK) {
        float* p = x + b;
        const int32_t m = static_cast<int32_t>(n - b < BLOCK ? n - b : BLOCK);
        const uint64_t sample = first + static_cast<uint64_t>(b);
        const uint32_t low = static_cast<uint32_t>(sample);
        const uint32_t high = static_cast<uint32_t>(sample >> 32);
        for (uint32_t j = begin / 4; 4 * j < end; ++j) {
            if (4 * j >= begin && 4 * j + 4 <= end) {
#pragma omp simd
                for (int32_t i = 0; i < m; ++i) {
                    const uint32_t l = low + static_cast<uint32_t>(i);
                    uint32_t c0 = 0, c1 = j, c2 = l, c3 = high + (l < low ? 1u : 0u);
#pragma GCC unroll 10
                    for (uint32_t r = 0; r < 10; ++r)
                        round_of(c0, c1, c2, c3, k0 + r * W0, k1 + r * W1);
                    float z0, z1, z2, z3, y = p[i];
                    pair(c0, c1, z0, z1);
                    pair(c2, c3, z2, z3);
                    y = fma(c, z0, fma(a, mu - y, y));
                    y = fma(c, z1, fma(a, mu - y, y));
                    y = fma(c, z2, fma(a, mu - y, y));
                    p[i] = fma(c, z3, fma(a, mu - y, y));
                }
            } else {
                for (int32_t i = 0; i < m; ++i) {
                    float z[4];
                    four(j, sample + static_cast<uint64_t>(i), k0, k1, z);
                    for (uint32_t k = 0; k < 4; ++k)
                        if (4 * j + k >= begin && 4 * j + k < end)
                            p[i] = fma(c, z[k], fma(a, mu - p[i], p[i]));
                }
            }
        }
    }
}
