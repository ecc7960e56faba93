// Threads that go through the same function together: loops whose pieces they share, and barriers between them.
// A thread that waits looks for some microseconds and then sleeps: looking on would take the processor from the very
// thread it waits for, where the machine has more to do than this.
// Covers: one call at a time (others wait), a process that was forked. Does not cover: a function that throws.
#pragma once
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

inline void rest_a_moment() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class Team {
    static constexpr int LOOKS = 2000;  // some 30 microseconds
    static constexpr int LOOPS = 8;     // at most so many between two barriers
    const int64_t threads_;
    const pid_t process_ = getpid();
    std::thread::id caller_;
    std::atomic<uint32_t> generation_{0};
    std::atomic<int64_t> arrived_{0};
    std::atomic<int64_t> taken_[LOOPS] = {};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::function<void()> work_;
    static int& loop() {
        static thread_local int number = 0;
        return number;
    }

    explicit Team(int64_t threads) : threads_(threads) {
        for (int64_t i = 1; i < threads; ++i)
            std::thread([this] {
                while (true) {
                    barrier();
                    work_();
                    barrier();
                }
            }).detach();
    }

  public:
    // All threads run `work`; returns when all are done.
    static void run(int64_t threads, const std::function<void(Team&)>& work) {
        static std::mutex one_at_a_time;
        static std::map<int64_t, Team*> teams;  // never deleted: their threads wait for work until the process ends
        std::lock_guard<std::mutex> lock(one_at_a_time);
        Team*& team = teams[threads];
        if (!team || team->process_ != getpid()) team = new Team(threads);  // a fork has no threads of its parent
        team->caller_ = std::this_thread::get_id();
        team->work_ = [&] { work(*team); };
        team->barrier();
        team->work_();
        team->barrier();
    }

    bool is_caller() const { return std::this_thread::get_id() == caller_; }

    void barrier() {
        loop() = 0;
        const uint32_t generation = generation_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            for (auto& taken : taken_) taken.store(0, std::memory_order_relaxed);
            {
                std::lock_guard<std::mutex> lock(mutex_);
                generation_.store(generation + 1, std::memory_order_release);
            }
            changed_.notify_all();
            return;
        }
        for (int look = 0; look < LOOKS; ++look) {
            if (generation_.load(std::memory_order_acquire) != generation) return;
            rest_a_moment();
        }
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != generation; });
    }

    // Runs each(0) ... each(count - 1), `chunk` of them at a time by whoever is free; does not wait for the others.
    template <typename Each>
    void share(int64_t count, int64_t chunk, const Each& each) {
        std::atomic<int64_t>& taken = taken_[loop()++];
        for (int64_t start; (start = taken.fetch_add(chunk, std::memory_order_relaxed)) < count;)
            for (int64_t i = start; i < count && i < start + chunk; ++i) each(i);
    }
};
