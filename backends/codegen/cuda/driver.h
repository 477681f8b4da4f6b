/* The part of CUDA's driver interface that is used here: from libcuda at run time, or emulated.

   X(field, symbol, arguments): the symbols are those that cuda.h has its names stand for. */
#ifndef QC_DRIVER_H
#define QC_DRIVER_H
#include <stddef.h>

typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
typedef unsigned long long CUdeviceptr;

enum { QC_CAPTURE_THREAD = 1, QC_BAD_IMAGE = 200, QC_NO_BINARY = 209, QC_MAJOR = 75, QC_MINOR = 76 };

#define QC_DRIVER(X)                                                                              \
  X(init, "cuInit", (unsigned))                                                                   \
  X(error_name, "cuGetErrorName", (int, const char **))                                           \
  X(device, "cuDeviceGet", (int *, int))                                                          \
  X(attribute, "cuDeviceGetAttribute", (int *, int, int))                                         \
  X(name, "cuDeviceGetName", (char *, int, int))                                                  \
  X(retain, "cuDevicePrimaryCtxRetain", (CUcontext *, int))                                       \
  X(use, "cuCtxSetCurrent", (CUcontext))                                                          \
  X(load, "cuModuleLoadData", (CUmodule *, const void *))                                         \
  X(function, "cuModuleGetFunction", (CUfunction *, CUmodule, const char *))                      \
  X(allocate, "cuMemAlloc_v2", (CUdeviceptr *, size_t))                                           \
  X(clear, "cuMemsetD8_v2", (CUdeviceptr, unsigned char, size_t))                                 \
  X(stream, "cuStreamCreate", (CUstream *, unsigned))                                             \
  X(wait, "cuStreamSynchronize", (CUstream))                                                      \
  X(upload, "cuMemcpyHtoDAsync_v2", (CUdeviceptr, const void *, size_t, CUstream))                \
  X(download, "cuMemcpyDtoHAsync_v2", (void *, CUdeviceptr, size_t, CUstream))                    \
  X(launch, "cuLaunchKernel",                                                                     \
    (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream,  \
     void **, void **))                                                                           \
  X(begin, "cuStreamBeginCapture_v2", (CUstream, int))                                            \
  X(end, "cuStreamEndCapture", (CUstream, CUgraph *))                                             \
  X(instantiate, "cuGraphInstantiateWithFlags", (CUgraphExec *, CUgraph, unsigned long long))     \
  X(replay, "cuGraphLaunch", (CUgraphExec, CUstream))

#define QC_FIELD(field, symbol, arguments) int(*field) arguments;
struct qc_driver {
  QC_DRIVER(QC_FIELD)
};
#undef QC_FIELD

/* A kernel of the network: its name, and its launch: blocks x samples blocks. */
struct qc_kernel {
  const char *name;
  unsigned blocks, samples, threads;
};
#endif
