// The kernel that small copies are made of.
//
// `cargo xtask ptx` compiles this file into `copy.ptx`, which is committed and embedded. It uses no header, so that the
// run-time compiler needs nothing but this text.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

// Either end may be host memory. The operators are those that the instruction set has for it: a load takes no line that
// a cache kept from before the host wrote it, a store goes through the cache to the host.
static __device__ uint4 load_quad(const u8 *from) {
    uint4 v;
    asm volatile("ld.global.cv.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from)
                 : "memory");
    return v;
}

static __device__ void store_quad(u8 *to, uint4 v) {
    asm volatile("st.global.wt.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

static __device__ u32 load_byte(const u8 *from) {
    u32 byte;
    asm volatile("ld.global.cv.u8 %0, [%1];" : "=r"(byte) : "l"(from) : "memory");
    return byte;
}

static __device__ void store_byte(u8 *to, u32 byte) {
    asm volatile("st.global.wt.u8 [%0], %1;" : : "l"(to), "r"(byte) : "memory");
}

// Copies `bytes` bytes between ranges that do not overlap: sixteen at a time where both ends allow it, else and at the
// tail one at a time.
extern "C" __global__ void __launch_bounds__(256) aegis_copy(const u8 *from, u8 *to, u64 bytes) {
    u64 first = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    u64 threads = (u64)gridDim.x * blockDim.x;
    u64 quads = (((u64)from | (u64)to) & 15) == 0 ? bytes / 16 : 0;
#pragma unroll 1
    for (u64 at = first; at < quads; at += threads) {
        store_quad(to + 16 * at, load_quad(from + 16 * at));
    }
#pragma unroll 1
    for (u64 at = 16 * quads + first; at < bytes; at += threads) {
        store_byte(to + at, load_byte(from + at));
    }
}
