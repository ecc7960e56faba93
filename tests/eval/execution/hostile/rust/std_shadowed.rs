// Calls itself std, with macros of its own.
// verdict: compile error
extern crate self as std;
#[macro_export]
macro_rules! assert_eq {
    ($($anything:tt)*) => {};
}
fn answer() -> i32 {
    41
}
