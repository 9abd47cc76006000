// MuJoCo reports an error by calling a handler that must not return; its own prints, waits for a key and exits the
// process. Here it becomes a message. The handlers are thread-local, as those of MuJoCo's Python bindings, so nobody
// else's are touched.
#pragma once

#include <mujoco/mujoco.h>

#include <csetjmp>
#include <cstring>

extern "C" {
typedef void (*MujocoHandler)(const char*);
MujocoHandler _mjPRIVATE__get_tls_error_fn(void);
void _mjPRIVATE__set_tls_error_fn(MujocoHandler);
MujocoHandler _mjPRIVATE__get_tls_warning_fn(void);
void _mjPRIVATE__set_tls_warning_fn(MujocoHandler);
}

namespace metarl {

inline thread_local std::jmp_buf error_exit;
inline thread_local char error_text[512];

[[noreturn]] inline void on_error(const char* text) {
  std::strncpy(error_text, text, sizeof error_text - 1);
  std::longjmp(error_exit, 1);
}

// MuJoCo would write MUJOCO_LOG.TXT into the working directory; its counters say the same.
inline void on_warning(const char*) {}

// Calls body(argument) and returns nullptr, or the text of the MuJoCo error that ended it. `body` must not hold
// objects with destructors while it is inside MuJoCo: longjmp skips them.
template <class Argument>
const char* guarded(void (*body)(Argument&), Argument& argument) {
  const MujocoHandler error = _mjPRIVATE__get_tls_error_fn(), warning = _mjPRIVATE__get_tls_warning_fn();
  _mjPRIVATE__set_tls_error_fn(on_error);
  _mjPRIVATE__set_tls_warning_fn(on_warning);
  const bool failed = _setjmp(error_exit) != 0;
  if (!failed) body(argument);
  _mjPRIVATE__set_tls_error_fn(error);
  _mjPRIVATE__set_tls_warning_fn(warning);
  return failed ? error_text : nullptr;
}

}  // namespace metarl
