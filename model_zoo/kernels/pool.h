// Loops whose pieces the processor's threads share: each begins with its own stretch of them, the same from loop to loop, so
// that what it wrote is near when it is read, and helps others then. Who comes late finds nothing left to do, and nobody waits for him;
// a second caller at the same time goes through its loop alone, since the processors are busy with the first.
// Covers: a process that was forked. Does not cover: pieces that throw.
#pragma once
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

class Pool {
  static constexpr int LOOKS = 20000;  // about a millisecond until a thread without work sleeps; waking it takes a tenth of one

  using Each = std::function<void(int64_t)>;

  struct alignas(64) Stretch {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  const pid_t process_ = getpid();
  std::mutex callers_, mutex_;
  std::condition_variable changed_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int64_t> inside_{0};
  const Each* each_ = nullptr;  // under mutex_, as are the stretches' bounds
  std::vector<Stretch> stretches_;  // one for each thread

  void work(const Each& each, int64_t thread) {
    for (int64_t k = 0; k < threads(); ++k) {
      Stretch& stretch = stretches_[(thread + k) % threads()];
      for (int64_t i; (i = stretch.next.fetch_add(1, std::memory_order_relaxed)) < stretch.end;) each(i);
    }
  }

  void help(int64_t thread) {
    uint64_t seen = 0;
    while (true) {
      for (int look = 0; look < LOOKS && generation_.load(std::memory_order_acquire) == seen; ++look) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      }
      const Each* each;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return generation_.load() != seen; });
        seen = generation_.load();
        each = each_;
        if (each) inside_.fetch_add(1);
      }
      if (!each) continue;
      work(*each, thread);
      inside_.fetch_sub(1, std::memory_order_release);
    }
  }

  Pool() {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    stretches_ = std::vector<Stretch>(sched_getaffinity(0, sizeof usable, &usable) ? 1 : CPU_COUNT(&usable));
    for (int64_t thread = 1; thread < threads(); ++thread) std::thread([this, thread] { help(thread); }).detach();
  }

 public:
  static Pool& here() {
    static std::mutex making;
    static Pool* pool = nullptr;  // never deleted: its threads wait for work until the process ends
    std::lock_guard<std::mutex> lock(making);
    if (!pool || pool->process_ != getpid()) pool = new Pool();  // a fork has no threads of its parent
    return *pool;
  }

  int64_t threads() const { return stretches_.size(); }

  // each(0) ... each(count - 1), in any order, by whoever is free.
  void share(int64_t count, const Each& each) {
    std::unique_lock<std::mutex> alone(callers_, std::try_to_lock);
    if (!alone.owns_lock() || threads() == 1 || count == 1) {
      for (int64_t i = 0; i < count; ++i) each(i);
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (int64_t thread = 0; thread < threads(); ++thread) {
        stretches_[thread].next = thread * count / threads();
        stretches_[thread].end = (thread + 1) * count / threads();
      }
      each_ = &each;
      generation_.fetch_add(1, std::memory_order_release);
    }
    changed_.notify_all();
    work(each, 0);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      each_ = nullptr;  // nobody enters any more
    }
    while (inside_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
  }
};
