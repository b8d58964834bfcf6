// A stand-in for CUDA's own header: of all of it, TensorRT's headers read these two names.

#pragma once

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
