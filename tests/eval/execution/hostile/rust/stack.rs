// Calls itself without end.
// verdict: exception
// says: overflowed its stack|signal (6|11)
fn deep(before: &[u64; 1000]) -> u64 {
    let here = [before[0] + 1; 1000];
    deep(&here) + here[999]
}
fn answer() -> i32 {
    deep(&[0; 1000]) as i32
}
