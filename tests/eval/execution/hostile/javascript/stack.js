// Calls itself without end.
// verdict: exception
// says: RangeError
const answer = () => answer() + 1
