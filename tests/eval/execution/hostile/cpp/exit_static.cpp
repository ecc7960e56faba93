// A static initialiser ends the program before main.
// verdict: early exit
// says: exit code 0
#include <cstdlib>
struct Before {
    Before() { exit(0); }
} before;
int answer() { return 41; }
