// The compiled core behind a C interface, see compiled.py. Functions that can fail return 0, or 1 with the reason in
// core_error, or 2 because another thread is inside a call on the same core.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "env.hpp"
#include "guard.hpp"
#include "pool.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace metarl {

struct Core {
  int num_envs, n_threads;
  const float* actions;
  double *obs, *reward, *info;
  uint8_t* unstable;
  std::vector<Env> envs;
  std::vector<int> order;  // envs of one class beside each other: they share code and model
  bool sorted = false;
  std::unique_ptr<Pool> pool;
  pid_t home = getpid();
  std::atomic<bool> busy{false};
  std::mutex failing;
  int failed = -1;  // the first env that failed in this call
  std::string error;

  Core(int n, int threads) : num_envs(n), n_threads(threads), envs(n), order(n) {}

  void fail(int env, const char* text) {
    std::lock_guard<std::mutex> lock(failing);
    if (failed >= 0 && failed <= env) return;
    failed = env;
    error = "env " + std::to_string(env) + ": MuJoCo says: " + text;
  }

  int complain(std::string text) {
    error = std::move(text);
    return 1;
  }

  // Makes sure of the threads; false if the system has none left. A forked child has this memory but not the threads,
  // and their locks may be in any state: it leaves the old pool alone and starts its own.
  bool adopt() {
    if (home == getpid() && pool) return true;
    if (home != getpid()) (void)pool.release();
    home = getpid();
    try {
      pool.reset(new Pool(n_threads));
      return true;
    } catch (const std::system_error& problem) {
      error = "cannot start " + std::to_string(n_threads - 1) + " threads: " + problem.what();
      return false;
    }
  }
};

// Holds a core for one call.
class Hold {
 public:
  explicit Hold(Core* core) : core_(core), free_(!core->busy.exchange(true, std::memory_order_acquire)) {}
  ~Hold() {
    if (free_) core_->busy.store(false, std::memory_order_release);
  }
  bool refused() const { return !free_; }

 private:
  Core* core_;
  bool free_;
};

constexpr int kRefused = 2;  // without a text: core_error belongs to the call that holds the core

struct StepTask {
  Core* core;
  int env;
};

void step_body(StepTask& task) {
  Core& core = *task.core;
  const int i = task.env;
  double out[1 + kInfo] = {0};
  core.unstable[i] = core.envs[i].step(core.actions + kAction * i, core.obs + kObs * i, out);
  core.reward[i] = out[0];
  std::copy_n(out + 1, kInfo, core.info + kInfo * i);
}

void step_one(void* context, int position) {
  Core* core = static_cast<Core*>(context);
  StepTask task{core, core->order[position]};
  if (const char* text = guarded(step_body, task)) {
    core->envs[task.env].state = Env::kFailed;
    core->fail(task.env, text);
  }
}

struct LoadTask {
  Core* core;
  const int* envs;
  const double *const *physics, *const *model, *const *slots;
  int k;
};

void load_body(LoadTask& task) {
  const int i = task.envs[task.k];
  task.core->envs[i].load(task.physics[task.k], task.model[task.k], task.slots[task.k]);
  task.core->unstable[i] = 0;
}

void load_one(void* context, int k) {
  LoadTask task = *static_cast<LoadTask*>(context);
  task.k = k;
  if (const char* text = guarded(load_body, task)) {
    task.core->envs[task.envs[k]].state = Env::kFailed;
    task.core->fail(task.envs[k], text);
  }
}

struct MakeTask {
  const mjModel* model;
  mjData* made;
};

void make_body(MakeTask& task) { task.made = make_data(task.model); }

void sort_envs(Core* core) {
  for (int i = 0; i < core->num_envs; ++i) core->order[i] = i;
  std::stable_sort(core->order.begin(), core->order.end(), [core](int a, int b) {
    return std::less<const mjModel*>()(core->envs[a].type.model, core->envs[b].type.model);
  });
  core->sorted = true;
}

}  // namespace metarl

using namespace metarl;

EXPORT int core_mujoco_version() { return mj_version() == mjVERSION_HEADER ? mjVERSION_HEADER : -mj_version(); }

// The arrays belong to the caller and must live as long as the core. Threads start with the first load.
EXPORT Core* core_new(int num_envs, int n_threads, const float* actions, double* obs, double* reward, double* info,
                      uint8_t* unstable) {
  Core* core = new Core(num_envs, n_threads);
  core->actions = actions;
  core->obs = obs;
  core->reward = reward;
  core->info = info;
  core->unstable = unstable;
  return core;
}

EXPORT int core_free(Core* core) {
  if (core->home != getpid()) {
    (void)core->pool.release();  // a forked child has no threads to join
  } else if (core->busy.exchange(true, std::memory_order_acquire)) {
    return kRefused;
  }
  delete core;
  return 0;
}

// Refuses all further calls and ends the threads; memory stays, because another thread may hold the address.
EXPORT int core_shut(Core* core) {
  if (core->busy.exchange(true, std::memory_order_acquire)) return core->home == getpid() ? kRefused : 0;
  if (core->home != getpid()) (void)core->pool.release();
  core->pool.reset();
  return 0;
}

EXPORT const char* core_error(Core* core) { return core->error.c_str(); }

EXPORT int core_place(Core* core, int env, const Class* type, const Entry* entries, int n_entries) {
  Hold hold(core);
  if (hold.refused()) return kRefused;
  Env& at = core->envs[env];
  if (type->model->nmocap != 1 || type->model->nu != 2) {
    return core->complain("the model must have one mocap body and two actuators");
  }
  MakeTask task{type->model, nullptr};
  if (!at.has_data() || at.type.model != type->model) {
    if (const char* text = guarded(make_body, task)) return core->complain(std::string("MuJoCo says: ") + text);
  }
  const std::string wrong = at.place(*type, entries, n_entries, task.made);
  core->sorted = false;
  std::fill_n(core->obs + kObs * env, kObs, 0.0);
  std::fill_n(core->info + kInfo * env, kInfo, 0.0);
  core->reward[env] = 0;
  core->unstable[env] = 0;
  return wrong.empty() ? 0 : core->complain(wrong);
}

// Envs must differ. Sizes of the arrays are the caller's care.
EXPORT int core_load(Core* core, int n, const int* envs, const double* const* physics, const double* const* model,
                     const double* const* slots) {
  Hold hold(core);
  if (hold.refused()) return kRefused;
  if (!core->adopt()) return 1;
  core->failed = -1;
  LoadTask task{core, envs, physics, model, slots, 0};
  core->pool->run(n, load_one, &task);
  return core->failed >= 0;
}

EXPORT int core_save(Core* core, int env, double* physics, double* model, double* slots) {
  Hold hold(core);
  if (hold.refused()) return kRefused;
  if (core->envs[env].state != Env::kReady) {
    return core->complain("env " + std::to_string(env) + " is in no state yet; load one first");
  }
  core->envs[env].save(physics, model, slots);
  return 0;
}

EXPORT int core_step(Core* core) {
  Hold hold(core);
  if (hold.refused()) return kRefused;
  for (int i = 0; i < core->num_envs; ++i) {
    if (core->envs[i].state != Env::kReady) {
      return core->complain("env " + std::to_string(i) + " is in no state yet; load one first");
    }
  }
  if (!core->adopt()) return 1;
  if (!core->sorted) sort_envs(core);
  core->failed = -1;
  core->pool->run(core->num_envs, step_one, core);
  return core->failed >= 0;
}
