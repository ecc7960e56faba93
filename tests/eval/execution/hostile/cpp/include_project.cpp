// Includes a file of the host that everybody there may read.
// verdict: compile error
// says: No such file
#include "@BAIT@"
int answer() { return 42; }
