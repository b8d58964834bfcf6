// Plain functions over TensorRT's C++ interfaces, compiled once for each generation of the vendor's headers.
//
// The build script sets `AEGIS_TRT_TABLE`, the name that the compilation exports, and renames the vendor's namespace,
// so that several generations fit into one program: their classes have equal names and different tables of functions.

#include "shim.h"

#include <NvInferRuntime.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <new>

#ifndef NV_TENSORRT_MAJOR
#error "these headers name no version: NvInferVersion.h is missing"
#endif
#if NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR < 6
#error "TensorRT 8 is supported from 8.6 on"
#elif NV_TENSORRT_MAJOR == 9
#error "TensorRT 9 is not supported; legal are 8.6, 10.1 and later, 11"
#elif NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR < 1
#error "TensorRT 10 is supported from 10.1 on"
#elif NV_TENSORRT_MAJOR < 8
#error "this TensorRT is too old, or it is TensorRT-RTX; legal are 8.6, 10.1 and later, 11"
#endif

namespace trt = nvinfer1;

namespace {

// Without a driver the library has been seen to return small numbers instead of null. No object lies so low.
constexpr std::uintptr_t kLowestAddress = 64 * 1024;

class Logger final : public trt::ILogger {
public:
    Logger(ShimLog log, void *owner) : log_(log), owner_(owner) {}

    void log(Severity severity, char const *message) noexcept override {
        // Chatter is dropped here: passing it on would cost time on a lane.
        if (severity <= Severity::kWARNING && message != nullptr) {
            log_(owner_, static_cast<int32_t>(severity), message);
        }
    }

private:
    ShimLog log_;
    void *owner_;
};

// Remembers the first errors in memory of its own: an error must not need an allocation.
class Recorder final : public trt::IErrorRecorder {
public:
    int32_t getNbErrors() const noexcept override {
        std::lock_guard<std::mutex> held(lock_);
        return count_;
    }

    trt::ErrorCode getErrorCode(int32_t index) const noexcept override {
        std::lock_guard<std::mutex> held(lock_);
        return has(index) ? static_cast<trt::ErrorCode>(errors_[index].code) : trt::ErrorCode::kSUCCESS;
    }

    ErrorDesc getErrorDesc(int32_t index) const noexcept override {
        std::lock_guard<std::mutex> held(lock_);
        return has(index) ? errors_[index].text : "";
    }

    bool hasOverflowed() const noexcept override {
        std::lock_guard<std::mutex> held(lock_);
        return lost_ > 0;
    }

    void clear() noexcept override {
        std::lock_guard<std::mutex> held(lock_);
        count_ = 0;
        lost_ = 0;
    }

    // The answer says whether the error ends what is going on; the vendor wants a truth here and ignores it.
    bool reportError(trt::ErrorCode code, ErrorDesc text) noexcept override {
        std::lock_guard<std::mutex> held(lock_);
        if (count_ == SHIM_ERRORS) {
            ++lost_;
            return true;
        }
        ShimError &error = errors_[count_++];
        error.code = static_cast<int32_t>(code);
        std::strncpy(error.text, text == nullptr ? "" : text, SHIM_ERROR_TEXT - 1);
        error.text[SHIM_ERROR_TEXT - 1] = '\0';
        return true;
    }

    // Its owner deletes it after everything that could count on it, so the count decides nothing.
    RefCount incRefCount() noexcept override { return ++references_; }
    RefCount decRefCount() noexcept override { return --references_; }

    bool copy(int32_t index, ShimError *error) const {
        std::lock_guard<std::mutex> held(lock_);
        if (!has(index)) {
            return false;
        }
        *error = errors_[index];
        return true;
    }

    int32_t lost() const {
        std::lock_guard<std::mutex> held(lock_);
        return lost_;
    }

private:
    bool has(int32_t index) const { return index >= 0 && index < count_; }

    mutable std::mutex lock_;
    ShimError errors_[SHIM_ERRORS] = {};
    int32_t count_ = 0;
    int32_t lost_ = 0;
    std::atomic<int32_t> references_{0};
};

// Memory of the runtime's owner. Both the plain and, where there are such, the stream-ordered functions come here: the
// default of the latter is to call the former.
class Allocator final : public trt::IGpuAllocator {
public:
    explicit Allocator(ShimMemory memory) : memory_(memory) {}

    void *allocate(uint64_t bytes, uint64_t alignment, trt::AllocatorFlags) noexcept override {
        return bytes == 0 ? nullptr : memory_.allocate(memory_.owner, bytes, alignment);
    }

    bool deallocate(void *memory) noexcept override {
        return memory == nullptr || memory_.deallocate(memory_.owner, memory) != 0;
    }

#if NV_TENSORRT_MAJOR < 10
    void free(void *memory) noexcept override { deallocate(memory); }
#endif

private:
    ShimMemory memory_;
};

struct Runtime {
    Runtime(ShimMemory memory) : allocator(memory) {}

    Recorder recorder;
    Allocator allocator;
    trt::IRuntime *vendor = nullptr;
};

Runtime *of(ShimRuntime *runtime) { return reinterpret_cast<Runtime *>(runtime); }
trt::ICudaEngine *of(ShimEngine *engine) { return reinterpret_cast<trt::ICudaEngine *>(engine); }
trt::ICudaEngine const *of(ShimEngine const *engine) { return reinterpret_cast<trt::ICudaEngine const *>(engine); }
trt::IExecutionContext *of(ShimContext *context) { return reinterpret_cast<trt::IExecutionContext *>(context); }
trt::IExecutionContext const *of(ShimContext const *context) {
    return reinterpret_cast<trt::IExecutionContext const *>(context);
}

template <typename Object> Object *checked(Object *object) {
    return reinterpret_cast<std::uintptr_t>(object) < kLowestAddress ? nullptr : object;
}

void put(trt::Dims const &from, ShimShape *to) {
    *to = ShimShape{from.nbDims > SHIM_AXES ? -1 : from.nbDims, {}};
    for (int32_t axis = 0; axis < to->rank; ++axis) {
        to->axes[axis] = from.d[axis];
    }
}

ShimLogger *logger_new(ShimLog log, void *owner) {
    return reinterpret_cast<ShimLogger *>(new (std::nothrow) Logger(log, owner));
}

ShimRuntime *runtime_new(ShimCreate create, int32_t version, ShimLogger *logger, ShimMemory const *memory,
                         uint64_t *returned) {
    *returned = 0;
    Runtime *runtime = new (std::nothrow) Runtime(*memory);
    if (runtime == nullptr) {
        return nullptr;
    }
    trt::ILogger *sink = reinterpret_cast<Logger *>(logger);
    void *made = create(sink, version);
    *returned = reinterpret_cast<std::uintptr_t>(made);
    runtime->vendor = checked(static_cast<trt::IRuntime *>(made));
    if (runtime->vendor == nullptr) {
        delete runtime;
        return nullptr;
    }
    runtime->vendor->setErrorRecorder(&runtime->recorder);
    runtime->vendor->setGpuAllocator(&runtime->allocator);
    // The vendor's defaults, said aloud: a plan may not bring code for the host, and there is one thread, the caller's.
    runtime->vendor->setEngineHostCodeAllowed(false);
    runtime->vendor->setMaxThreads(1);
    return reinterpret_cast<ShimRuntime *>(runtime);
}

void runtime_delete(ShimRuntime *runtime) {
    delete of(runtime)->vendor;
    delete of(runtime);
}

int32_t runtime_error(ShimRuntime *runtime, int32_t number, ShimError *error) {
    return of(runtime)->recorder.copy(number, error);
}

int32_t runtime_lost(ShimRuntime *runtime) { return of(runtime)->recorder.lost(); }

void runtime_forget(ShimRuntime *runtime) { of(runtime)->recorder.clear(); }

ShimEngine *engine_new(ShimRuntime *runtime, void const *plan, uint64_t bytes) {
    return reinterpret_cast<ShimEngine *>(checked(of(runtime)->vendor->deserializeCudaEngine(plan, bytes)));
}

void engine_delete(ShimEngine *engine) { delete of(engine); }

int32_t engine_layers(ShimEngine const *engine) { return of(engine)->getNbLayers(); }

int32_t engine_streams(ShimEngine const *engine) { return of(engine)->getNbAuxStreams(); }

int32_t engine_profiles(ShimEngine const *engine) { return of(engine)->getNbOptimizationProfiles(); }

int32_t engine_tensors(ShimEngine const *engine) { return of(engine)->getNbIOTensors(); }

int32_t engine_tensor(ShimEngine const *engine, int32_t number, ShimTensor *tensor) {
    trt::ICudaEngine const *from = of(engine);
    char const *name = number < 0 || number >= from->getNbIOTensors() ? nullptr : from->getIOTensorName(number);
    if (name == nullptr) {
        return 0;
    }
    tensor->name = name;
    tensor->element = static_cast<int32_t>(from->getTensorDataType(name));
    tensor->mode = static_cast<int32_t>(from->getTensorIOMode(name));
    tensor->on_host = from->getTensorLocation(name) == trt::TensorLocation::kHOST;
    tensor->linear = from->getTensorFormat(name) == trt::TensorFormat::kLINEAR;
    tensor->format = from->getTensorFormatDesc(name);
    put(from->getTensorShape(name), &tensor->shape);
    return 1;
}

void engine_limit(ShimEngine const *engine, char const *name, int32_t profile, int32_t which, ShimShape *shape) {
    put(of(engine)->getProfileShape(name, profile, static_cast<trt::OptProfileSelector>(which)), shape);
}

ShimContext *context_new(ShimRuntime *runtime, ShimEngine *engine) {
#if NV_TENSORRT_MAJOR >= 10
    trt::IExecutionContext *made =
        of(engine)->createExecutionContext(trt::ExecutionContextAllocationStrategy::kUSER_MANAGED);
#else
    trt::IExecutionContext *made = of(engine)->createExecutionContextWithoutDeviceMemory();
#endif
    made = checked(made);
    if (made != nullptr) {
        // What a plan takes while it runs comes to the same place, where it is refused.
        made->setTemporaryStorageAllocator(&of(runtime)->allocator);
    }
    return reinterpret_cast<ShimContext *>(made);
}

void context_delete(ShimContext *context) { delete of(context); }

int32_t context_profile(ShimContext *context, int32_t profile, void *stream) {
    return of(context)->setOptimizationProfileAsync(profile, static_cast<cudaStream_t>(stream));
}

int32_t context_shape(ShimContext *context, char const *name, ShimShape const *shape) {
    trt::Dims to{};
    to.nbDims = shape->rank;
    for (int32_t axis = 0; axis < shape->rank; ++axis) {
        to.d[axis] = static_cast<decltype(to.d[0] + 0)>(shape->axes[axis]);
    }
    return of(context)->setInputShape(name, to);
}

int32_t context_infer(ShimContext *context) { return of(context)->inferShapes(0, nullptr); }

void context_inferred(ShimContext const *context, char const *name, ShimShape *shape) {
    put(of(context)->getTensorShape(name), shape);
}

int64_t context_scratch_bytes(ShimContext *context, ShimEngine const *engine) {
#if NV_TENSORRT_MAJOR >= 10
    // Zero for "nothing needed" and for an error alike: the bound for all shapes decides which.
    std::size_t const exact = of(context)->updateDeviceMemorySizeForShapes();
    return exact > 0 ? static_cast<int64_t>(exact) : of(engine)->getDeviceMemorySizeV2();
#else
    static_cast<void>(context);
    return static_cast<int64_t>(of(engine)->getDeviceMemorySize());
#endif
}

void context_scratch(ShimContext *context, void *memory, int64_t bytes) {
#if NV_TENSORRT_MAJOR >= 10
    of(context)->setDeviceMemoryV2(memory, bytes);
#else
    static_cast<void>(bytes);
    of(context)->setDeviceMemory(memory);
#endif
}

int32_t context_address(ShimContext *context, char const *name, void *memory) {
    return of(context)->setTensorAddress(name, memory);
}

int32_t context_enqueue(ShimContext *context, void *stream) {
    return of(context)->enqueueV3(static_cast<cudaStream_t>(stream));
}

#if NV_TENSORRT_MAJOR >= 10
constexpr int32_t kMajor = 10000;
constexpr int32_t kOldestMinor = NV_TENSORRT_MAJOR == 10 ? 1 : 0;
#else
constexpr int32_t kMajor = 1000;
constexpr int32_t kOldestMinor = 6;
#endif

constexpr ShimTable kTable = {
    NV_TENSORRT_MAJOR * kMajor + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH,
    NV_TENSORRT_MAJOR * kMajor + kOldestMinor * 100,
    logger_new,
    runtime_new,
    runtime_delete,
    runtime_error,
    runtime_lost,
    runtime_forget,
    engine_new,
    engine_delete,
    engine_layers,
    engine_streams,
    engine_profiles,
    engine_tensors,
    engine_tensor,
    engine_limit,
    context_new,
    context_delete,
    context_profile,
    context_shape,
    context_infer,
    context_inferred,
    context_scratch_bytes,
    context_scratch,
    context_address,
    context_enqueue,
};

} // namespace

extern "C" ShimTable const *AEGIS_TRT_TABLE() { return &kTable; }
