// A macro that needs itself without end.
// verdict: compile error
// says: recursion limit
macro_rules! again {
    ($($anything:tt)*) => { again!($($anything)* x) };
}
fn answer() -> i32 {
    again!()
}
