// A template that needs itself without end.
// verdict: compile error
// says: depth
template <int n> struct Deep { static const int value = Deep<n + 1>::value; };
int answer() { return Deep<0>::value; }
