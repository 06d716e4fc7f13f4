/* libnvidia-ml.so.1 for one GPU, with the structures of nvml.h as they are documented: the real nvidia-ml-py loads it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long u64;
enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15 };

typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned version; u64 total, reserved, free, used; } memory_v2;
typedef struct { u64 total, free, used; } memory_v1;
typedef struct { unsigned version, sensor; int temperature; } temperature;
typedef struct { unsigned pid; u64 memory; unsigned instance, compute; } process;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci;
typedef struct { unsigned version, supported; } gpm_support;
typedef struct { double at; } gpm_sample;
typedef struct { unsigned id; int result; double value; struct { char *a, *b, *unit; } info; } gpm_metric;
typedef struct { unsigned version, count; gpm_sample *first, *second; gpm_metric metrics[]; } gpm_request;

static int looks;  /* the GPU is lost after so many of them as the variable LOST_AFTER says */
static int lost(void) { const char *after = getenv("LOST_AFTER"); return after && looks > atoi(after); }
static int text(char *to, unsigned size, const char *from) { snprintf(to, size, "%s", from); return OK; }

int nvmlInitWithFlags(unsigned flags) { return flags; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int error) { (void)error; return "an error"; }
int nvmlSystemGetDriverVersion(char *to, unsigned size) { return text(to, size, "580.95.05"); }
int nvmlSystemGetCudaDriverVersion_v2(int *to) { *to = 13000; return OK; }
int nvmlDeviceGetCount_v2(unsigned *to) { *to = 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **to) { *to = (void *)1; return index ? NOT_FOUND : OK; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **to) { *to = (void *)1; return strcmp(uuid, "GPU-a") ? NOT_FOUND : OK; }
int nvmlDeviceGetUUID(void *gpu, char *to, unsigned size) { (void)gpu; return text(to, size, "GPU-a"); }
int nvmlDeviceGetName(void *gpu, char *to, unsigned size) { (void)gpu; return text(to, size, "NVIDIA H200"); }
int nvmlDeviceGetIndex(void *gpu, unsigned *to) { (void)gpu; *to = 0; return OK; }
int nvmlDeviceGetMigMode(void *gpu, unsigned *now, unsigned *later) { (void)gpu; *now = *later = 0; return OK; }
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *gpu, void **to) { (void)gpu, (void)to; return 2; }
int nvmlDeviceGetPciInfo_v3(void *gpu, pci *to) { (void)gpu; strcpy(to->bus_id, "00000000:1B:00.0"); return OK; }
int nvmlDeviceGetCudaComputeCapability(void *gpu, int *major, int *minor) { (void)gpu; *major = 9, *minor = 0; return OK; }
int nvmlDeviceGetEnforcedPowerLimit(void *gpu, unsigned *to) { (void)gpu; *to = 700000; return OK; }
int nvmlDeviceGetMaxClockInfo(void *gpu, int kind, unsigned *to) { (void)gpu; *to = 1980 + kind - 1; return OK; }
int nvmlDeviceGetComputeMode(void *gpu, int *to) { (void)gpu; *to = 0; return OK; }
int nvmlDeviceGetPersistenceMode(void *gpu, int *to) { (void)gpu; *to = 1; return OK; }

int nvmlDeviceGetUtilizationRates(void *gpu, utilization *to) {
  (void)gpu; looks++;
  to->gpu = 97, to->memory = 12;
  return lost() ? GPU_IS_LOST : OK;
}
int nvmlDeviceGetMemoryInfo(void *gpu, memory_v1 *to) { (void)gpu; to->total = 1000, to->free = 600, to->used = 400; return OK; }
int nvmlDeviceGetMemoryInfo_v2(void *gpu, memory_v2 *to) {
  (void)gpu;
  to->total = 1000, to->reserved = 100, to->free = 600, to->used = 300;
  return to->version == (sizeof *to | 2u << 24) ? OK : 25;
}
int nvmlDeviceGetPowerUsage(void *gpu, unsigned *to) { (void)gpu; *to = 612345; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, u64 *to) { (void)gpu; *to = 5000000000ull + 250ull * looks; return OK; }
int nvmlDeviceGetClockInfo(void *gpu, int kind, unsigned *to) { (void)gpu; *to = kind == 1 ? 1755 : 3201; return OK; }
int nvmlDeviceGetTemperatureV(void *gpu, temperature *to) { (void)gpu; to->temperature = 55; return OK; }
int nvmlDeviceGetCurrentClocksEventReasons(void *gpu, u64 *to) { (void)gpu; *to = 0x24; return OK; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *gpu, unsigned *count, process *to) {
  (void)gpu;
  if (!to) { *count = 1; return INSUFFICIENT_SIZE; }
  *count = 1, to->pid = 4711, to->memory = 2048;
  return OK;
}

int nvmlGpmQueryDeviceSupport(void *gpu, gpm_support *to) { (void)gpu; to->supported = 1; return to->version == 1 ? OK : 25; }
int nvmlGpmSampleAlloc(gpm_sample **to) { *to = calloc(1, sizeof **to); return OK; }
int nvmlGpmSampleFree(gpm_sample *sample) { free(sample); return OK; }
int nvmlGpmSampleGet(void *gpu, gpm_sample *to) { (void)gpu; static int taken; to->at = ++taken; return lost() ? GPU_IS_LOST : OK; }
int nvmlGpmMetricsGet(gpm_request *request) {  /* 10 for a metric's number between samples in order; occupancy is refused */
  for (unsigned i = 0; i < request->count; i++) {
    gpm_metric *metric = &request->metrics[i];
    metric->result = metric->id == 3 ? NOT_SUPPORTED : OK;
    metric->value = (request->second->at - request->first->at) * 5 * metric->id;
  }
  return request->version == 1 ? OK : 25;
}
