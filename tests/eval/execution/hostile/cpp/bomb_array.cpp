// A program of many gigabytes, all of them written out.
// verdict: compile error
// compiler: bomb
char large[1L << 34] = {1};
int answer() { return large[0] + 41; }
