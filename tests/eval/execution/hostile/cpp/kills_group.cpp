// Kills its process group.
// verdict: exception
// says: signal 9
#include <csignal>
int answer() {
    kill(0, SIGKILL);
    return 42;
}
