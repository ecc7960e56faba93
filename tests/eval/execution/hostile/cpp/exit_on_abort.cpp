// Ends with 0 where a failed assertion aborts.
// verdict: wrong answer
#include <csignal>
#include <cstdlib>
void quietly(int) { _Exit(0); }
int answer() {
    signal(SIGABRT, quietly);
    return 41;
}
