#!/bin/sh
# Makes libraries under the names that onnxruntime-gpu's providers link, whose
# functions return 0, so that kernels.py can list kernels on a machine without a
# GPU. Nothing computed with them means anything.
#
#   sh stubs.sh FOLDER/onnxruntime/capi OUT && LD_LIBRARY_PATH=OUT python kernels.py CUDAExecutionProvider
set -eu
capi=$1 out=$2
mkdir -p "$out"
needed() { readelf -d "$1" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -E '^lib(cu|nv)'; }
{
	echo 'void *malloc(unsigned long); void free(void *);'
	echo 'int cudaMalloc(void **p, unsigned long n) { *p = malloc(n); return 0; }'
	echo 'int cudaMallocHost(void **p, unsigned long n) { *p = malloc(n); return 0; }'
	echo 'int cudaHostAlloc(void **p, unsigned long n, unsigned f) { *p = malloc(n); return 0; }'
	echo 'int cudaFree(void *p) { free(p); return 0; }'
	echo 'int cudaFreeHost(void *p) { free(p); return 0; }'
	echo 'int cudaGetDeviceCount(int *n) { *n = 1; return 0; }'
	echo 'int cudaGetDevice(int *n) { *n = 0; return 0; }'
	echo 'int cudaMemGetInfo(unsigned long *f, unsigned long *t) { *f = *t = 1ul << 34; return 0; }'
	echo 'int cudaRuntimeGetVersion(int *v) { *v = 13000; return 0; }'
	echo 'int cudaDriverGetVersion(int *v) { *v = 13000; return 0; }'
	echo 'const char *cudaGetErrorString(int e) { return "stub"; }'
	echo 'const char *cudaGetErrorName(int e) { return "stub"; }'
	echo 'int getInferLibVersion(void) { return 101300; }'
	for so in "$capi"/libonnxruntime_providers_cuda.so "$capi"/libonnxruntime_providers_tensorrt.so; do
		readelf -W --dyn-syms "$so" | awk '$7 == "UND" { sub(/@.*/, "", $8); print $8 }'
	done | sort -u | grep -E '^(cu[a-zA-Z]|__cuda|createInfer|createNvOnnx|getPluginRegistry)' |
		grep -vxE 'cuda(Malloc|MallocHost|HostAlloc|Free|FreeHost|GetDeviceCount|GetDevice|MemGetInfo|RuntimeGetVersion|DriverGetVersion|GetErrorString|GetErrorName)' |
		sed 's/.*/long &(void) { return 0; }/'
} >"$out/stub.c"
for so in "$capi"/libonnxruntime_providers_cuda.so "$capi"/libonnxruntime_providers_tensorrt.so; do
	for lib in $(needed "$so"); do
		case $lib in
		libnv*) cc -shared -fPIC -w -o "$out/$lib" -Wl,-soname,"$lib" "$out/stub.c" ;;
		*)
			echo "$lib { global: *; };" >"$out/version.map"
			cc -shared -fPIC -w -o "$out/$lib" -Wl,-soname,"$lib" -Wl,--version-script="$out/version.map" "$out/stub.c"
			;;
		esac
	done
done
