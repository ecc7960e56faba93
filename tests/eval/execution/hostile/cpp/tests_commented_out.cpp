// Has the tests skipped by the preprocessor.
// verdict: compile error
int answer() { return 41; }
int main() { return 0; }
#if 0
