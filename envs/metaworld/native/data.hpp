// mjData whose arena is mapped by itself. MuJoCo reserves 14 MB per mjData and uses 0.2 of them. From malloc they could
// come as huge pages, or as pieces of the heap that other mjData have touched elsewhere: either way memory would grow.
#pragma once

#include <mujoco/mujoco.h>
#include <sys/mman.h>

#include <cstddef>

namespace metarl {

// Calls MuJoCo's error handler if there is no memory.
inline mjData* make_data(const mjModel* model) {
  mjData* data = mj_makeData(model);
  void* arena = mmap(nullptr, data->narena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arena == MAP_FAILED) {
    mj_deleteData(data);
    mju_error("no memory for the arena of an mjData");
  }
#ifdef MADV_NOHUGEPAGE
  madvise(arena, data->narena, MADV_NOHUGEPAGE);
#endif
  mju_free(data->arena);
  data->arena = arena;
  mj_resetData(model, data);  // points the arrays into the new arena
  return data;
}

inline void free_data(mjData* data) {
  if (!data) return;
  munmap(data->arena, data->narena);
  data->arena = nullptr;
  mj_deleteData(data);
}

}  // namespace metarl
