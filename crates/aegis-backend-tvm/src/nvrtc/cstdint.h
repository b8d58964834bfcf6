// The integer types that TVM's kernels name, for a compiler that comes without the headers of a toolkit.
#pragma once
namespace cuda {
namespace std {
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long;
using uint64_t = unsigned long;
}
}
