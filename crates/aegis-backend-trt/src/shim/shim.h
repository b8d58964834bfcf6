// The C side of the TensorRT backend, as Rust sees it: `cargo xtask bindgen` makes `bindings.rs` of this file.
//
// TensorRT speaks C++ by tables of virtual functions, which Rust cannot call. `shim.cpp` is compiled once for each
// generation of the vendor's headers, and each compilation exports one `ShimTable` of plain functions. Nothing here is
// linked with TensorRT: the library is opened at run time and reached through the objects that it makes.
//
// Rules for all functions: pointers are those that the table itself gave out, and live; children (context, engine) are
// deleted before their parents (engine, runtime); a text ends with a zero byte; a truth is 0 or 1; nothing unwinds.

#ifndef AEGIS_BACKEND_TRT_SHIM_H
#define AEGIS_BACKEND_TRT_SHIM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    // Axes that a tensor has at most.
    SHIM_AXES = 8,
    // Errors that a runtime remembers; further ones are counted as lost.
    SHIM_ERRORS = 8,
    // Bytes of an error's text, with its end.
    SHIM_ERROR_TEXT = 256
};

// The sink of the vendor's messages. It lives until the process ends, because the library keeps the first one that it
// was given for as long as it is loaded.
typedef struct ShimLogger ShimLogger;
// A vendor's runtime with its own error recorder and its own allocator.
typedef struct ShimRuntime ShimRuntime;
// A plan that was read.
typedef struct ShimEngine ShimEngine;
// What runs a plan.
typedef struct ShimContext ShimContext;

// Takes a message of a severity: 0 internal error, 1 error, 2 warning; others are not passed on. Called on any thread.
typedef void (*ShimLog)(void *owner, int32_t severity, const char *message);

// The vendor's `createInferRuntime_INTERNAL`.
typedef void *(*ShimCreate)(void *logger, int32_t version);

// Where a runtime takes device memory from. Called on any thread.
typedef struct ShimMemory {
    // Handed to both functions.
    void *owner;
    // Bytes are not zero; the alignment is zero or a power of two. Null refuses.
    void *(*allocate)(void *owner, uint64_t bytes, uint64_t alignment);
    // Whether the memory was known.
    int32_t (*deallocate)(void *owner, void *memory);
} ShimMemory;

// A shape; a rank of -1 is unknown, an axis of -1 open.
typedef struct ShimShape {
    int32_t rank;
    int64_t axes[SHIM_AXES];
} ShimShape;

// An input or output of a plan. Texts live as long as the engine.
typedef struct ShimTensor {
    const char *name;
    // The vendor's number of the element type.
    int32_t element;
    // 1 input, 2 output.
    int32_t mode;
    // Whether its values are read or written on the host.
    int32_t on_host;
    // Whether its elements lie one behind the other.
    int32_t linear;
    // The vendor's words for how they lie.
    const char *format;
    ShimShape shape;
} ShimTensor;

// An error that the vendor recorded.
typedef struct ShimError {
    int32_t code;
    char text[SHIM_ERROR_TEXT];
} ShimError;

typedef struct ShimTable {
    // Version of the headers, as the vendor writes it in one number.
    int32_t headers;
    // The oldest library, in the same writing, that has every function used here.
    int32_t oldest;

    // Null where there is no memory. `owner` lives as long as the logger.
    ShimLogger *(*logger_new)(ShimLog log, void *owner);

    // Null if the library made none; `returned` is then what it returned, which may be no pointer.
    ShimRuntime *(*runtime_new)(ShimCreate create, int32_t version, ShimLogger *logger, const ShimMemory *memory,
                                uint64_t *returned);
    void (*runtime_delete)(ShimRuntime *runtime);
    // Copies the error of a number; 0 if there are not so many.
    int32_t (*runtime_error)(ShimRuntime *runtime, int32_t number, ShimError *error);
    // Errors that were not remembered since the last call of `runtime_forget`.
    int32_t (*runtime_lost)(ShimRuntime *runtime);
    void (*runtime_forget)(ShimRuntime *runtime);

    // Null if the library refuses the plan.
    ShimEngine *(*engine_new)(ShimRuntime *runtime, const void *plan, uint64_t bytes);
    void (*engine_delete)(ShimEngine *engine);
    int32_t (*engine_layers)(const ShimEngine *engine);
    int32_t (*engine_streams)(const ShimEngine *engine);
    int32_t (*engine_profiles)(const ShimEngine *engine);
    int32_t (*engine_tensors)(const ShimEngine *engine);
    // 0 if there is no tensor of that number.
    int32_t (*engine_tensor)(const ShimEngine *engine, int32_t number, ShimTensor *tensor);
    // The least (0) or largest (2) shape that a profile takes for an input.
    void (*engine_limit)(const ShimEngine *engine, const char *name, int32_t profile, int32_t which, ShimShape *shape);

    // A context whose scratch is given by `context_scratch`; null if the library makes none.
    ShimContext *(*context_new)(ShimRuntime *runtime, ShimEngine *engine);
    void (*context_delete)(ShimContext *context);
    int32_t (*context_profile)(ShimContext *context, int32_t profile, void *stream);
    int32_t (*context_shape)(ShimContext *context, const char *name, const ShimShape *shape);
    // The number of inputs that are not specified well enough; negative for other errors.
    int32_t (*context_infer)(ShimContext *context);
    void (*context_inferred)(const ShimContext *context, const char *name, ShimShape *shape);
    // Bytes of scratch for the shapes that were set.
    int64_t (*context_scratch_bytes)(ShimContext *context, const ShimEngine *engine);
    void (*context_scratch)(ShimContext *context, void *memory, int64_t bytes);
    int32_t (*context_address)(ShimContext *context, const char *name, void *memory);
    int32_t (*context_enqueue)(ShimContext *context, void *stream);
} ShimTable;

// The tables of this build. Which of them exist is told by the build script.
const ShimTable *aegis_trt_table_8(void);
const ShimTable *aegis_trt_table_10(void);
const ShimTable *aegis_trt_table_11(void);

#ifdef __cplusplus
}
#endif

#endif
