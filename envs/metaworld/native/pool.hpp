// Threads that outlive a step. The caller is worker 0; between steps the others sleep.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace metarl {

inline void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Pool {
 public:
  // Starts n_workers - 1 threads; throws std::system_error if there can be no more.
  explicit Pool(int n_workers) : shares_(new Share[n_workers]), n_workers_(n_workers) {
    // Signals are for the thread that runs Python.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (int worker = 1; worker < n_workers; ++worker) threads_.emplace_back([this, worker] { serve(worker); });
    } catch (...) {
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      stop();
      throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  ~Pool() { stop(); }

  // Calls job(context, i) for i = 0 .. count - 1, each once, and returns when all are done.
  void run(int count, void (*job)(void*, int), void* context) {
    if (n_workers_ == 1 || count == 1) {
      for (int i = 0; i < count; ++i) job(context, i);
      return;
    }
    job_ = job;
    context_ = context;
    for (int w = 0; w < n_workers_; ++w) {
      shares_[w].next.store(int(int64_t(count) * w / n_workers_), std::memory_order_relaxed);
      shares_[w].end = int(int64_t(count) * (w + 1) / n_workers_);
    }
    busy_.store(n_workers_ - 1, std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      round_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    work(0);
    wait([this] { return busy_.load(std::memory_order_acquire) == 0; }, done_);
  }

 private:
  // Each worker begins with its own share, so that an env's memory stays in one core's cache from step to step, and
  // then helps the others.
  struct alignas(64) Share {
    std::atomic<int> next{0};
    int end = 0;
  };

  void work(int worker) {
    for (int k = 0; k < n_workers_; ++k) {
      Share& share = shares_[(worker + k) % n_workers_];
      for (int i; (i = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) job_(context_, i);
    }
  }

  void serve(int worker) {
    for (uint32_t seen = 0;;) {
      wait([this, seen] { return round_.load(std::memory_order_acquire) != seen; }, wake_);
      if (ended_) return;
      ++seen;
      work(worker);
      if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        { std::lock_guard<std::mutex> lock(mutex_); }  // the caller is either before its check or asleep
        done_.notify_one();
      }
    }
  }

  // A few microseconds of looking, less than a sleep and a wake-up cost; then sleep.
  template <class Ready>
  void wait(Ready ready, std::condition_variable& signal) {
    for (int i = 0; i < kLooks; ++i) {
      if (ready()) return;
      pause_cpu();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    signal.wait(lock, ready);
  }

  void stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
      round_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  static constexpr int kLooks = 100;

  std::unique_ptr<Share[]> shares_;
  int n_workers_;
  void (*job_)(void*, int) = nullptr;
  void* context_ = nullptr;
  std::atomic<int> busy_{0};
  std::atomic<uint32_t> round_{0};
  bool ended_ = false;  // written before `round_` changes, read after
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
};

}  // namespace metarl
