// Calls itself without end.
// verdict: exception
// says: signal 11
int deep(volatile int* before) {
    volatile int here[1000];
    here[0] = 1;
    return deep(here) + before[0];
}
int answer() {
    volatile int none = 0;
    return deep(&none);
}
