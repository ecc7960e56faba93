// Blocks every signal and never ends.
// verdict: CPU time
// limits: cpu_s=1
#include <csignal>
int answer() {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, nullptr);
    for (;;) continue;
}
