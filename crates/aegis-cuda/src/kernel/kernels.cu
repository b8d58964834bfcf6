// The kernels of the built-in workload: load of a known kind, and a data path whose results the host knows exactly.
//
// `cargo xtask ptx` compiles this file into `kernels.ptx`, which is committed and embedded. It uses no header, so that
// the run-time compiler needs nothing but this text. Load comes as a fixed amount of work, not as a fixed time: it
// stretches when others take their share of the device, as a network's kernels do. Only `hold` and `overrun` wait for
// the clock.

typedef unsigned int u32;
typedef unsigned long long u64;

// Every block that a model may ask for gets its registers.
#define ANY_BLOCK __launch_bounds__(1024)
// Words of a model's state; the data path runs in one block of as many threads.
#define STATE_WORDS 1024
// Words of a region that take part in the data path, spread evenly over it.
#define SAMPLES_LOG2 12
#define SAMPLES (1u << SAMPLES_LOG2)

// For a fixed word a bijection of `state`, by the integer hash "lowbias32" of C. Wellons.
static __device__ u32 blend(u32 state, u32 word) {
    u32 x = (state ^ (word * 0x9E3779B1u)) + 0x6D2B79F5u;
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    return x ^ (x >> 16);
}

static __device__ u64 first_of_grid() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

static __device__ u64 threads_of_grid() { return (u64)gridDim.x * blockDim.x; }

static __device__ u64 nanoseconds() {
    u64 now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

static __device__ void spin(u64 length) {
    u64 start = nanoseconds();
    while (nanoseconds() - start < length) {
    }
}

// Past the first-level cache, which belongs to one multiprocessor; volatile, so that no round is optimised away.
static __device__ uint4 load_shared_level(const uint4 *from) {
    uint4 v;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(from)
                 : "memory");
    return v;
}

static __device__ void store_shared_level(uint4 *to, uint4 v) {
    asm volatile("st.global.cg.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

// ---- load ----

// Sixteen fused multiply-adds a round and thread, in four chains. Nothing is ever stored: the chains stay positive,
// which the compiler cannot know.
extern "C" __global__ void ANY_BLOCK aegis_compute(u32 rounds, float *never) {
    float a = threadIdx.x * 1e-3f, b = a + 1.0f, c = a + 2.0f, d = a + 3.0f;
#pragma unroll 1
    for (u32 round = 0; round < rounds; ++round) {
#pragma unroll
        for (u32 part = 0; part < 4; ++part) {
            a = __fmaf_rn(a, 0.999f, 0.001f);
            b = __fmaf_rn(b, 0.998f, 0.002f);
            c = __fmaf_rn(c, 0.997f, 0.003f);
            d = __fmaf_rn(d, 0.996f, 0.004f);
        }
    }
    if (a + b + c + d == -1.0f) {
        *never = a;
    }
}

// Occupies multiprocessors: every block holds `words` words of shared memory, which its threads write once and read
// every round. Long or short blocks are a matter of `rounds` and of the grid.
extern "C" __global__ void ANY_BLOCK aegis_fill(u32 rounds, u32 words, float *never) {
    extern __shared__ float slots[];
#pragma unroll 1
    for (u32 slot = threadIdx.x; slot < words; slot += blockDim.x) {
        slots[slot] = slot * 1e-3f;
    }
    __syncthreads();
    float a = threadIdx.x * 1e-3f;
    u32 slot = words == 0 ? 0 : threadIdx.x % words;
#pragma unroll 1
    for (u32 round = 0; round < rounds; ++round) {
        float b = words == 0 ? 1.0f : slots[slot];
        slot = slot + 1 < words ? slot + 1 : 0;
#pragma unroll
        for (u32 part = 0; part < 16; ++part) {
            a = __fmaf_rn(a, 0.999f, b);
        }
    }
    if (a == -1.0f) {
        *never = a;
    }
}

// Reads and writes a region `rounds` times: every word is complemented where `key` has ones. A thread keeps to its own
// words in every round, so the result is exact: changed after an odd number of rounds, as before after an even one.
extern "C" __global__ void ANY_BLOCK aegis_stream(uint4 *data, u64 quads, u32 rounds, u32 key) {
#pragma unroll 1
    for (u32 round = 0; round < rounds; ++round) {
        for (u64 at = first_of_grid(); at < quads; at += threads_of_grid()) {
            uint4 v = load_shared_level(data + at);
            v.x ^= key;
            v.y ^= key;
            v.z ^= key;
            v.w ^= key;
            store_shared_level(data + at, v);
        }
    }
}

// Reads a region `rounds` times, as a network reads its weights. `never` stays as it is: `key` is not zero.
extern "C" __global__ void ANY_BLOCK aegis_read(const uint4 *data, u64 quads, u32 rounds, u32 key, u32 *never) {
    u32 sum = 0;
#pragma unroll 1
    for (u32 round = 0; round < rounds; ++round) {
        for (u64 at = first_of_grid(); at < quads; at += threads_of_grid()) {
            uint4 v = load_shared_level(data + at);
            sum ^= v.x ^ v.y ^ v.z ^ v.w;
        }
    }
    if (key == 0) {
        *never = sum;
    }
}

// Spins for a set length, in every block.
extern "C" __global__ void ANY_BLOCK aegis_hold(u64 length) { spin(length); }

// What a launch costs.
extern "C" __global__ void ANY_BLOCK aegis_nothing() {}

// ---- faults ----

// Spins for `length` at its `at`th execution and returns at once at every other. One thread.
extern "C" __global__ void ANY_BLOCK aegis_overrun(u32 *counter, u32 at, u64 length) {
    u32 execution = *counter + 1;
    *counter = execution;
    if (execution == at) {
        spin(length);
    }
}

// Writes to `target`, which no allocation holds, at its `at`th execution. One thread.
extern "C" __global__ void ANY_BLOCK aegis_stray(u32 *counter, u32 at, u32 *target) {
    u32 execution = *counter + 1;
    *counter = execution;
    if (execution == at) {
        *(volatile u32 *)target = execution;
    }
}

// ---- data ----

static __device__ u64 sample_position(u32 sample, u64 words) {
    return words <= SAMPLES ? sample : (sample * words) >> SAMPLES_LOG2;
}

static __device__ u32 samples_of(u64 words) { return words < SAMPLES ? (u32)words : SAMPLES; }

// A word of a region; what lies past its end reads as zero bytes.
static __device__ u32 word_at(const u32 *data, u64 bytes, u64 at) {
    if (4 * at + 4 <= bytes) {
        return data[at];
    }
    u32 word = 0;
#pragma unroll 1
    for (u64 byte = 4 * at; byte < bytes; ++byte) {
        word |= (u32)((const unsigned char *)data)[byte] << (8 * (byte & 3));
    }
    return word;
}

// Fills a region with words that follow from `seed`.
extern "C" __global__ void ANY_BLOCK aegis_generate(u32 *data, u64 words, u32 seed) {
#pragma unroll 1
    for (u64 at = first_of_grid(); at < words; at += threads_of_grid()) {
        data[at] = blend(seed, (u32)at);
    }
}

// Takes the samples of a region into the state; every word of the state depends on every sample. One block of
// STATE_WORDS threads. `begin` forgets what the state was.
extern "C" __global__ void ANY_BLOCK aegis_fold(u32 *state, const u32 *data, u64 bytes, u32 salt, u32 begin) {
    __shared__ u32 total;
    u32 lane = threadIdx.x;
    if (lane == 0) {
        total = 0;
    }
    __syncthreads();
    u64 words = (bytes + 3) / 4;
    u32 taken = samples_of(words);
    u32 own = blend(begin ? 0 : state[lane], salt);
#pragma unroll 1
    for (u32 sample = lane; sample < taken; sample += STATE_WORDS) {
        own = blend(own, word_at(data, bytes, sample_position(sample, words)));
    }
    atomicAdd(&total, own);
    __syncthreads();
    state[lane] = blend(own, total + lane);
}

// Writes what follows from the state to the samples of a region of whole words. One block of STATE_WORDS threads.
extern "C" __global__ void ANY_BLOCK aegis_spread(const u32 *state, u32 *data, u64 words) {
    u32 taken = samples_of(words);
#pragma unroll 1
    for (u32 sample = threadIdx.x; sample < taken; sample += STATE_WORDS) {
        data[sample_position(sample, words)] = blend(state[threadIdx.x], sample);
    }
}

// Writes a whole output, whatever its length.
extern "C" __global__ void ANY_BLOCK aegis_emit(const u32 *state, u32 *out, u64 bytes, u32 salt) {
    u64 words = (bytes + 3) / 4;
#pragma unroll 1
    for (u64 at = first_of_grid(); at < words; at += threads_of_grid()) {
        u32 word = blend(blend(state[at % STATE_WORDS], salt), (u32)at);
        if (4 * at + 4 <= bytes) {
            out[at] = word;
        } else {
#pragma unroll 1
            for (u64 byte = 4 * at; byte < bytes; ++byte) {
                ((unsigned char *)out)[byte] = (unsigned char)(word >> (8 * (byte & 3)));
            }
        }
    }
}

// ---- where kernels run ----

// Records the multiprocessor of every block.
extern "C" __global__ void ANY_BLOCK aegis_where(u32 *out) {
    if (threadIdx.x == 0) {
        u32 multiprocessor;
        asm volatile("mov.u32 %0, %%smid;" : "=r"(multiprocessor));
        out[blockIdx.x] = multiprocessor;
    }
}
