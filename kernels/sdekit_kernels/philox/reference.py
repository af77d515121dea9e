"""The noise in plain torch: slow, readable, and right to the last bit.

Integers live in int64 tensors that hold values in [0, 2^32). float32 arithmetic is carried out in
float64 and rounded after each operation; a fused multiply-add is rounded once, by rounding the
float64 sum to odd first (Boldo & Melquiond 2008, "Emulation of FMA and correctly rounded sums").
This is the oracle for the bits that the Numba and the Triton version must give.

Notation: counters c0..c3, keys k0, k1, words w0..w3 as in Salmon et al. 2011.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from sdekit_kernels.philox import constants as k

_MASK = 0xFFFFFFFF
Words = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def philox_int(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 of one counter in Python integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(k.PHILOX_ROUNDS):
        p0, p1 = k.PHILOX_M0 * c0, k.PHILOX_M1 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + k.PHILOX_W0) & _MASK, (k1 + k.PHILOX_W1) & _MASK
    return c0, c1, c2, c3


@lru_cache(maxsize=4096)
def derive_key(seed: int, stream: int) -> tuple[int, int]:
    """The 2 x 32-bit key of (seed, stream): two words of Philox at counter (stream, 0, 0, 0).

    ``seed`` is read as 64 unsigned bits, ``stream`` as 32.
    """
    words = philox_int((stream & _MASK, 0, 0, 0), (seed & _MASK, (seed >> 32) & _MASK))
    return words[0], words[1]


def _multiply(m: int, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low word of a 32 x 32 bit product, in halves that stay below 2^63."""
    low, high = c * (m & 0xFFFF), c * (m >> 16)
    return (high + (low >> 16)) >> 16, (low + ((high & 0xFFFF) << 16)) & _MASK


def philox_torch(
    c0: torch.Tensor, c1: int, c2: torch.Tensor, c3: torch.Tensor, k0: int, k1: int
) -> Words:
    """Philox4x32-10 of many counters (int64 tensors that broadcast against each other)."""
    c0, c2, c3 = torch.broadcast_tensors(c0, c2, c3)
    x = torch.full_like(c0, c1)
    for _ in range(k.PHILOX_ROUNDS):
        h0, l0 = _multiply(k.PHILOX_M0, c0)
        h1, l1 = _multiply(k.PHILOX_M1, c2)
        c0, x, c2, c3 = h1 ^ x ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0, k1 = (k0 + k.PHILOX_W0) & _MASK, (k1 + k.PHILOX_W1) & _MASK
    return c0, x, c2, c3


def _round32(x: torch.Tensor) -> torch.Tensor:
    return x.float().double()


def _fma32(a: torch.Tensor, b: torch.Tensor | float, c: torch.Tensor | float) -> torch.Tensor:
    """a b + c rounded once to float32; all values are float32 held in float64."""
    p = a * b  # exact: 24 + 24 bits fit into 53
    c = torch.as_tensor(c, dtype=torch.float64, device=p.device)
    s = p + c
    back = s - p
    error = (p - (s - back)) + (c - back)
    bits = s.view(torch.int64)
    away = torch.where((error > 0) == (s > 0), 1, -1)
    odd = torch.where((error != 0) & (bits & 1 == 0), bits + away, bits)
    return _round32(odd.view(torch.float64))


def _horner32(t: torch.Tensor, coefficients: tuple[float, ...]) -> torch.Tensor:
    c = [float(torch.tensor(v, dtype=torch.float32)) for v in coefficients]
    p = torch.full_like(t, c[-1])
    for v in reversed(c[:-1]):
        p = _fma32(p, t, v)
    return p


def radius_squared_torch(w: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """-2 ln u, u = (w + 1/2) 2^-32; for float32 in the exact order of the kernels' operations."""
    if dtype == torch.float64:
        return -2.0 * torch.log((w.double() + 0.5) * 2.0**-32)
    near_one = w >= k.SQRT_HALF_WORD
    count = _round32(torch.where(near_one, _MASK - w, w).double())
    y = _fma32(count, 2.0**-32, 2.0**-33)
    bits = y.float().view(torch.int32).to(torch.int64)
    e = (bits - k.SQRT_HALF_BITS) >> 23
    m = (bits - (e << 23)).to(torch.int32).view(torch.float32).double()
    f = torch.where(near_one, -y, m - 1.0)
    e = torch.where(near_one, 0, e).double()
    minus_two_ln2 = float(torch.tensor(k.MINUS_TWO_LN2, dtype=torch.float32))
    linear = _fma32(e, minus_two_ln2, -2.0 * f)
    return _fma32(_round32(f * f), _horner32(f, k.LOG_F32), linear)


def cos_sin_torch(w: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of 2 pi w / 2^32, quadrant and remainder apart."""
    quadrant = ((w + (1 << 29)) >> 30) & 3
    rest = w - (((w + (1 << 29)) >> 30) << 30)  # in [-2^29, 2^29): an eighth of a turn each way
    if dtype == torch.float64:
        angle = rest.double() * (torch.pi * 2.0**-31)
        c, s = torch.cos(angle), torch.sin(angle)
    else:
        a = _round32((rest << 2).double()) * 2.0**-31
        t = _round32(a * a)
        s = _round32(a * _horner32(t, k.SIN_F32))
        c = _fma32(_horner32(t, k.COS_F32), t, 1.0)
    odd = quadrant & 1 == 1
    x, y = torch.where(odd, s, c), torch.where(odd, c, s)
    x = torch.where((quadrant == 1) | (quadrant == 2), -x, x)
    return x, torch.where(quadrant >= 2, -y, y)


def _pair(
    w0: torch.Tensor, w1: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    r = torch.sqrt(radius_squared_torch(w0, dtype))
    r = r if dtype == torch.float64 else _round32(r)
    c, s = cos_sin_torch(w1, dtype)
    return r * c, r * s


def normal_torch(
    n_samples: int,
    dim: int,
    *,
    seed: int,
    stream: int,
    step: int,
    first_sample: int,
    dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor:
    """Normals of shape (n_samples, dim) for samples first_sample, first_sample + 1, ...

    dim >= 4: counter (component // 4, step, sample low, sample high), lane component % 4.
    dim < 4: counter (component, step // 4, sample low, sample high), lane step % 4.
    """
    k0, k1 = derive_key(seed, stream)
    rows = torch.arange(n_samples, dtype=torch.int64, device=device)[:, None]
    low = rows + (first_sample & _MASK)
    high = (first_sample >> 32) + (low >> 32)
    low, high = low & _MASK, high & _MASK
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    width = (dim + 3) // 4 if dim >= 4 else dim
    place = torch.arange(width, dtype=torch.int64, device=device)[None, :]
    c1 = step if dim >= 4 else step // 4
    w0, w1, w2, w3 = philox_torch(place, c1, low, high, k0, k1)
    if dim >= 4:
        lanes = (*_pair(w0, w1, compute), *_pair(w2, w3, compute))
        z = torch.stack(lanes, dim=-1).flatten(1)[:, :dim]
    else:
        pair = _pair(w0, w1, compute) if step % 4 < 2 else _pair(w2, w3, compute)
        z = pair[step % 2]
    return z.to(compute).to(dtype)
