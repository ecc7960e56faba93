// A template that asks for twice the work at every level.
// verdict: compile error
// says: passed its limit of cpu|signal|CPU time limit
// compiler: bomb
template <int n, class T> struct A { static const int v = A<n - 1, A<n, T>>::v + A<n - 1, A<n, T*>>::v; };
template <class T> struct A<0, T> { static const int v = 1; };
int answer() { return A<40, int>::v; }
