/* A driver of GPUs that compute nothing, for test_fake_driver.py: libcuda.so.1 as far as tinyfcn calls
   it. Memory is the host's, copies are made, kernels are counted and not run.

   FAKE_GPUS      how many GPUs there are (1)
   FAKE_MEMORY    bytes of each (16 GiB)
   FAKE_BUSY      a status that making a context gives
   FAKE_CALLS     after so many calls the GPU is gone: all further ones fail
   FAKE_SHOW      show the first four arguments of the kernels with this in their names on stderr
   FAKE_LOG       a file for the counts of all calls */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT_OF_MEMORY = 2, ILLEGAL_ADDRESS = 700, FUNCTIONS = 64 };

static struct { const char *name; long count; } calls[FUNCTIONS];
static long all_calls, used;
static __thread long current;  /* 1000 + the GPU whose context it is */

static long setting(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value ? atol(value) : otherwise;
}

static int status(const char *name) {
    int i = 0;
    while (calls[i].name && strcmp(calls[i].name, name)) i++;
    calls[i].name = name;
    calls[i].count++;
    return ++all_calls > setting("FAKE_CALLS", 1L << 40) ? ILLEGAL_ADDRESS : 0;
}

__attribute__((destructor)) static void write_log(void) {
    const char *path = getenv("FAKE_LOG");
    FILE *log = path ? fopen(path, "w") : 0;
    for (int i = 0; log && calls[i].name; i++) fprintf(log, "%s %ld\n", calls[i].name, calls[i].count);
    if (log) fclose(log);
}

static int allocate(void **address, size_t size) {
    if (used + (long)size > setting("FAKE_MEMORY", 16L << 30)) return OUT_OF_MEMORY;
    if (posix_memalign(address, 512, size)) return OUT_OF_MEMORY;
    memset(*address, 0, size);
    used += malloc_usable_size(*address);
    return 0;
}

#define CALL(name, parameters, body) \
    int name parameters { int failed = status(#name); if (failed) return failed; body; return 0; }
#define COPY(name) \
    CALL(name, (void *to, const void *from, size_t size, void *stream), memcpy(to, from, size))

CALL(cuInit, (unsigned flags), )
CALL(cuDriverGetVersion, (int *version), *version = 13000)
CALL(cuDeviceGetCount, (int *count), *count = setting("FAKE_GPUS", 1))
CALL(cuDeviceGet, (int *device, int index), *device = index)
CALL(cuDeviceGetName, (char *text, int size, int device), snprintf(text, size, "Fake %d", device))
CALL(cuDeviceGetUuid_v2, (void *id, int device), memset(id, device, 16))
CALL(cuDeviceGetAttribute, (int *value, int attribute, int device),
     *value = attribute == 75 ? 9 : attribute == 76 ? 0    /* compute capability 9.0 */
            : attribute == 16 ? 132                        /* multiprocessors */
            : attribute == 13 || attribute == 36 ? 2000000 /* clocks, kHz */
            : attribute == 37 ? 5120 : 0)                  /* bits of the bus */
CALL(cuDevicePrimaryCtxRetain, (long *context, int device),
     if (setting("FAKE_BUSY", 0)) return setting("FAKE_BUSY", 0); *context = 1000 + device)
CALL(cuDevicePrimaryCtxRelease_v2, (int device), )
CALL(cuCtxPushCurrent_v2, (long context), current = context)
CALL(cuCtxPopCurrent_v2, (long *context), *context = current; current = 0)
CALL(cuCtxGetCurrent, (long *context), *context = current)
CALL(cuCtxSetCurrent, (long context), current = context)
CALL(cuCtxGetDevice, (int *device), *device = current - 1000)
CALL(cuMemGetInfo_v2, (size_t *free, size_t *total),
     *total = setting("FAKE_MEMORY", 16L << 30); *free = *total - used)
CALL(cuMemAlloc_v2, (void **address, size_t size), return allocate(address, size))
CALL(cuMemFree_v2, (void *address), used -= malloc_usable_size(address); free(address))
CALL(cuMemHostAlloc, (void **address, size_t size, unsigned flags),
     return posix_memalign(address, 512, size))
CALL(cuMemFreeHost, (void *address), free(address))
CALL(cuMemcpyHtoD_v2, (void *to, const void *from, size_t size), memcpy(to, from, size))
COPY(cuMemcpyHtoDAsync_v2)
COPY(cuMemcpyDtoHAsync_v2)
COPY(cuMemcpyDtoDAsync_v2)
CALL(cuStreamCreate, (void **stream, unsigned flags), *stream = malloc(8))
CALL(cuStreamDestroy_v2, (void *stream), free(stream))
CALL(cuStreamSynchronize, (void *stream), )
CALL(cuStreamWaitEvent, (void *stream, void *event, unsigned flags), )
CALL(cuEventCreate, (void **event, unsigned flags), *event = malloc(8))
CALL(cuEventDestroy_v2, (void *event), free(event))
CALL(cuEventRecord, (void *event, void *stream), )
CALL(cuEventSynchronize, (void *event), )
CALL(cuLibraryLoadData, (void **library), *library = malloc(8))
CALL(cuLibraryUnload, (void *library), free(library))
CALL(cuLibraryGetKernel, (char **kernel, void *library, const char *name), *kernel = strdup(name))
CALL(cuKernelGetAttribute, (int *value), *value = 1)
CALL(cuLaunchKernelEx, (const void *config, const char *kernel, void **arguments, void **extra),
     if (getenv("FAKE_SHOW") && strstr(kernel, getenv("FAKE_SHOW")))
         for (int i = 0; i < 4; i++)
             fprintf(stderr, "argument %d: %016lx\n", i, *(unsigned long *)arguments[i]))

int cuGetErrorName(int error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_ILLEGAL_ADDRESS";
    return 0;
}

int cuGetErrorString(int error, const char **text) {
    *text = "it is a fake";
    return 0;
}

/* By this all others are found, under the names without their versions. */
int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long flags,
                        int *found) {
    char versioned[256];
    snprintf(versioned, sizeof versioned, "%s_v2", name);
    void *here = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    *function = dlsym(here, versioned);
    if (!*function) *function = dlsym(here, name);
    if (found) *found = !*function;
    return *function ? 0 : 500;
}
