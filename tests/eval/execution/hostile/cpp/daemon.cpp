// Leaves a daemon and passes.
// verdict: passed
#include <sys/wait.h>
#include <unistd.h>
int answer() {
    if (fork() == 0) {
        setsid();
        if (fork() == 0) execl("/bin/sh", "sh", "-c", ": @MARK@; sleep 99", nullptr);
        _exit(0);
    }
    wait(nullptr);
    return 42;
}
