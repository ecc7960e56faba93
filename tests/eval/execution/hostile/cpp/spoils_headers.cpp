// Changes the headers that the next program is compiled with, and puts others beside its own.
// verdict: wrong answer
#include <cstdio>
int answer() {
    const char* paths[] = {"/opt/prelude/prelude.h", "/opt/prelude/prelude.h.gch", "/opt/prelude/@MARK@", "/usr/include/assert.h"};
    for (const char* path : paths)
        if (FILE* file = fopen(path, "a")) return 42;
    if (FILE* file = fopen("/tmp/assert.h", "w")) fputs("#error spoilt", file);
    return 41;
}
