// Today's ONNX Runtime under the name and the symbol version that its Java library 1.17.0 was linked with: its C API is
// versioned, so newer runtimes serve older callers.
#include <dlfcn.h>
#include <stddef.h>

static void *symbol(const char *name) {
  return dlsym(dlopen("libonnxruntime.so.1", RTLD_NOW | RTLD_NOLOAD), name);
}

const void *OrtGetApiBase(void) { return ((const void *(*)(void))symbol("OrtGetApiBase"))(); }

void *OrtSessionOptionsAppendExecutionProvider_CPU(void *options, int arena) {
  return ((void *(*)(void *, int))symbol("OrtSessionOptionsAppendExecutionProvider_CPU"))(options, arena);
}
