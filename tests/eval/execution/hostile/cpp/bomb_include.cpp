// Includes a file that never ends.
// verdict: compile error
// compiler: bomb
#include "/dev/zero"
int answer() { return 42; }
