// A macro that doubles forty times.
// verdict: compile error
// compiler: bomb
#define A(x) x + x
#define B(x) A(A(A(A(x))))
#define C(x) B(B(B(B(x))))
int answer() { return C(C(B(B(1)))); }
