// One environment: its simulation, its program, and the exact sequence of upstream's step.
#pragma once

#include <mujoco/mjxmacro.h>
#include <mujoco/mujoco.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "data.hpp"

namespace metarl {

typedef void (*Program)(const mjModel*, const mjData*, const float*, double*, double*, double*);

constexpr int kObs = 39, kAction = 4, kInfo = 7;

// What envs of one class share. `entries` name runs of numbers in arrays of the model that each env has its own.
struct Class {
  const mjModel* model;
  Program program;  // may be null: observation and reward are then zeros
  double action_scale, mocap_low[3], mocap_high[3];
  int frame_skip, n_slots;
};

struct Entry {
  const char* field;
  int start, size;
};

// Returns the place of the pointer to an array of doubles in `m`, and how many there are; nullptr if there is none.
inline mjtNum** find_array(mjModel* m, const char* field, int64_t* size) {
  MJMODEL_POINTERS_PREAMBLE(m)
#define X(type, name, nr, nc)                                        \
  if (std::is_same<type, mjtNum>::value && !std::strcmp(field, #name)) { \
    *size = int64_t(m->nr) * (nc);                                   \
    return reinterpret_cast<mjtNum**>(&m->name);                     \
  }
#undef MJ_M
#define MJ_M(n) m->n
  MJMODEL_POINTERS
#undef X
#undef MJ_M
#define MJ_M(n) n
  return nullptr;
}

// Whether a change of ctrl and mocap leaves everything but constraints and forces as the last forward computed it.
inline bool fusable(const mjModel* m) {
  if (m->opt.integrator != mjINT_EULER || m->opt.disableflags || m->opt.enableflags) return false;
  if (m->opt.solver == mjSOL_PGS || m->opt.noslip_iterations) return false;
  if (m->nsensor || m->nplugin || m->ntendon || m->nflex || m->na || m->ngravcomp) return false;
  for (int e = 0; e < m->neq; ++e) {
    if (m->eq_objtype[e] != mjOBJ_BODY) return false;
  }
  for (int b = 0; b < m->nbody; ++b) {
    const bool mocap = m->body_mocapid[b] >= 0;
    if (mocap && m->body_parentid[b] != 0) return false;
    if (m->body_parentid[b] && m->body_mocapid[m->body_parentid[b]] >= 0) return false;
    for (int g = m->body_geomadr[b]; mocap && g < m->body_geomadr[b] + m->body_geomnum[b]; ++g) {
      if (m->geom_contype[g] || m->geom_conaffinity[g]) return false;
    }
  }
  for (int p = 0; p < 2 * m->npair; ++p) {
    const int geom = p % 2 ? m->pair_geom2[p / 2] : m->pair_geom1[p / 2];
    if (m->body_mocapid[m->geom_bodyid[geom]] >= 0) return false;
  }
  return true;
}

inline bool any_bad(const mjtNum* x, int n) {
  for (int i = 0; i < n; ++i) {
    if (mju_isBad(x[i])) return true;
  }
  return false;
}

class Env {
 public:
  enum State { kEmpty, kPlaced, kReady, kFailed };
  State state = kEmpty;
  Class type{};

  Env() = default;
  Env(const Env&) = delete;
  ~Env() { free_data(data_); }

  // Becomes one of `wanted`. Takes over `data`, fresh from make_data; nullptr: keep the present one. Returns what is
  // wrong, or an empty text.
  std::string place(const Class& wanted, const Entry* entries, int n_entries, mjData* data) {
    state = kEmpty;
    if (data) {
      free_data(data_);
      data_ = data;
    }
    type = wanted;
    model_ = *wanted.model;  // shares all arrays but those below
    own_.clear();
    runs_.clear();
    mocap_ = -1;
    for (int b = 0; b < model_.nbody; ++b) {
      if (model_.body_mocapid[b] == 0) mocap_ = b;
    }
    for (int e = 0; e < n_entries; ++e) {
      int64_t size = 0;
      mjtNum** array = find_array(&model_, entries[e].field, &size);
      if (!array) return std::string("mjModel has no array of floats called ") + entries[e].field;
      if (entries[e].start < 0 || entries[e].size < 0 || entries[e].start + int64_t(entries[e].size) > size) {
        return std::string("model entry lies outside of ") + entries[e].field;
      }
      own(array, size);
      runs_.push_back({*array + entries[e].start, entries[e].size});
    }
    fuse_ = fusable(&model_);
    slots_.assign(type.n_slots, 0.0);
    state = kPlaced;
    return "";
  }

  bool has_data() const { return data_; }

  void load(const double* physics, const double* values, const double* slots) {
    if (state == kFailed) mj_resetData(&model_, data_);  // an error may have left MuJoCo's stack in use
    for (const Run& run : runs_) {
      std::memcpy(run.at, values, run.size * sizeof(double));
      values += run.size;
    }
    std::copy_n(slots, slots_.size(), slots_.begin());
    mj_setState(&model_, data_, physics, mjSTATE_INTEGRATION);
    mj_forward(&model_, data_);
    mj_setState(&model_, data_, physics, mjSTATE_INTEGRATION);  // forward has overwritten the warm start
    state = kReady;
  }

  void save(double* physics, double* values, double* slots) const {
    mj_getState(&model_, data_, physics, mjSTATE_INTEGRATION);
    for (const Run& run : runs_) {
      std::memcpy(values, run.at, run.size * sizeof(double));
      values += run.size;
    }
    std::copy(slots_.begin(), slots_.end(), slots);
  }

  // Advances by one environment step; returns whether MuJoCo found it unstable (and began anew by itself).
  bool step(const float* action, double* obs, double* out) {
    static constexpr int kBad[] = {mjWARN_BADQPOS, mjWARN_BADQVEL, mjWARN_BADQACC};
    for (int w : kBad) data_->warning[w].number = 0;
    control(action);
    if (fuse_ && !any_bad(data_->qpos, model_.nq) && !any_bad(data_->qvel, model_.nv)) {
      first_substep();
    } else {
      mj_step(&model_, data_);
    }
    for (int s = 1; s < type.frame_skip; ++s) mj_step(&model_, data_);
    mj_forward(&model_, data_);
    if (type.program) type.program(&model_, data_, action, slots_.data(), obs, out);
    bool unstable = false;
    for (int w : kBad) unstable |= data_->warning[w].number != 0;
    return unstable;
  }

 private:
  struct Run {
    mjtNum* at;
    int size;
  };
  struct Owned {
    mjtNum** array;
    std::unique_ptr<mjtNum[]> numbers;
  };

  void own(mjtNum** array, int64_t size) {
    for (const Owned& owned : own_) {
      if (owned.array == array) return;
    }
    own_.push_back({array, std::unique_ptr<mjtNum[]>(new mjtNum[size])});
    std::memcpy(own_.back().numbers.get(), *array, size * sizeof(mjtNum));
    *array = own_.back().numbers.get();
  }

  // Upstream's set_xyz_action and ctrl, in its types: the action and its product with the scale are float32, the
  // position is float64; entries beyond [-1, 1] are clipped for the hand but not for the fingers.
  void control(const float* action) {
    const float scale = float(type.action_scale);
    for (int k = 0; k < 3; ++k) {
      const float clipped = action[k] < -1.0f ? -1.0f : action[k] > 1.0f ? 1.0f : action[k];
      const float shift = clipped * scale;
      const double moved = data_->mocap_pos[k] + double(shift);
      const double low = type.mocap_low[k], high = type.mocap_high[k];
      data_->mocap_pos[k] = moved < low ? low : moved > high ? high : moved;
    }
    const mjtNum downwards[4] = {1, 0, 1, 0};
    mju_copy4(data_->mocap_quat, downwards);
    data_->ctrl[0] = double(action[3]);
    data_->ctrl[1] = -double(action[3]);
  }

  // mj_step, given that mj_forward has run since qpos and qvel last changed: only ctrl and the mocap body are new.
  // That body has no joints, no children and touches nothing (see `fusable`), so only the constraint that ties the
  // hand to it and the forces are to be computed; inertia, contacts, bias and passive forces are what they were.
  void first_substep() {
    mjData* d = data_;
    mjtNum* quat = d->xquat + 4 * mocap_;
    mju_copy3(d->xpos + 3 * mocap_, d->mocap_pos);
    mju_copy4(quat, d->mocap_quat);
    mju_normalize4(quat);  // once for the mocap frame, once as any body, as mj_kinematics does
    mju_normalize4(quat);
    mju_quat2Mat(d->xmat + 9 * mocap_, quat);
    mj_makeConstraint(&model_, d);
    mj_referenceConstraint(&model_, d);
    mj_fwdActuation(&model_, d);
    mj_fwdAcceleration(&model_, d);
    mj_fwdConstraint(&model_, d);
    mj_checkAcc(&model_, d);
    mj_Euler(&model_, d);
  }

  mjModel model_{};
  mjData* data_ = nullptr;
  int mocap_ = -1;
  bool fuse_ = false;
  std::vector<Owned> own_;
  std::vector<Run> runs_;
  std::vector<double> slots_;
};

}  // namespace metarl
