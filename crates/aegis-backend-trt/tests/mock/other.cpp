// A library with the vendor's first two functions and a version of its own choice: `OTHER_VERSION`. Making a runtime
// returns what it was told to (`OTHER_RUNTIME`), or ends the process where it must not be called at all.

#include <cstdint>
#include <cstdlib>

extern "C" std::int32_t getInferLibVersion() noexcept { return OTHER_VERSION; }

extern "C" void *createInferRuntime_INTERNAL(void *, std::int32_t) noexcept {
#ifdef OTHER_RUNTIME
    return reinterpret_cast<void *>(OTHER_RUNTIME);
#else
    std::abort();
#endif
}
