// Loops whose pieces the processor's threads share. Who comes late finds nothing left to do, and nobody waits for him;
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

class Pool {
  static constexpr int LOOKS = 20000;  // about a millisecond until a thread without work sleeps; waking it takes a tenth of one

  struct Loop {
    const std::function<void(int64_t)>* each;
    int64_t count;
    std::atomic<int64_t> taken{0};
  };

  const pid_t process_ = getpid();
  std::mutex callers_, mutex_;
  std::condition_variable changed_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int64_t> inside_{0};
  Loop* loop_ = nullptr;  // under mutex_
  int64_t helpers_;

  static void work(Loop& loop) {
    for (int64_t i; (i = loop.taken.fetch_add(1, std::memory_order_relaxed)) < loop.count;) (*loop.each)(i);
  }

  void help() {
    uint64_t seen = 0;
    while (true) {
      for (int look = 0; look < LOOKS && generation_.load(std::memory_order_acquire) == seen; ++look) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      }
      Loop* loop;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return generation_.load() != seen; });
        seen = generation_.load();
        loop = loop_;
        if (loop) inside_.fetch_add(1);
      }
      if (!loop) continue;
      work(*loop);
      inside_.fetch_sub(1, std::memory_order_release);
    }
  }

  Pool() {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    const int64_t threads = sched_getaffinity(0, sizeof usable, &usable) ? 1 : CPU_COUNT(&usable);
    helpers_ = threads - 1;
    for (int64_t i = 0; i < helpers_; ++i) std::thread([this] { help(); }).detach();
  }

 public:
  static Pool& here() {
    static std::mutex making;
    static Pool* pool = nullptr;  // never deleted: its threads wait for work until the process ends
    std::lock_guard<std::mutex> lock(making);
    if (!pool || pool->process_ != getpid()) pool = new Pool();  // a fork has no threads of its parent
    return *pool;
  }

  int64_t threads() const { return helpers_ + 1; }

  // each(0) ... each(count - 1), in any order, by whoever is free.
  void share(int64_t count, const std::function<void(int64_t)>& each) {
    std::unique_lock<std::mutex> alone(callers_, std::try_to_lock);
    Loop loop{&each, count};
    if (!alone.owns_lock() || helpers_ == 0 || count == 1) return work(loop);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      loop_ = &loop;
      generation_.fetch_add(1, std::memory_order_release);
    }
    changed_.notify_all();
    work(loop);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      loop_ = nullptr;  // nobody enters any more
    }
    while (inside_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
  }
};
