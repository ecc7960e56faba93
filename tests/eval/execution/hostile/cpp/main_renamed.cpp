// Brings its own main and gives that of the tests another name.
// verdict: early exit
// says: exit code 0
int answer() { return 41; }
int main() { return 0; }
#define main never_called
