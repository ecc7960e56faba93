// Ends with exit.
// verdict: early exit
// says: exit code 0
#include <cstdlib>
int answer() { exit(0); }
