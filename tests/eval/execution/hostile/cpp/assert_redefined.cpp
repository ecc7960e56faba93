// Switches assertions off.
// verdict: wrong answer
#define NDEBUG
#include <cassert>
#undef assert
#define assert(anything)
int answer() { return 41; }
