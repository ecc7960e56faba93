// Wants all memory.
// verdict: memory
// says: bad_alloc|held more
// limits: memory_mib=200
#include <cstring>
int answer() {
    for (;;) memset(new char[10000000], 1, 10000000);
}
