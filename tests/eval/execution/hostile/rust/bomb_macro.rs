// A macro that doubles what it is given, forty times.
// verdict: compile error
// compiler: bomb
macro_rules! twice {
    ($x:expr;) => { $x };
    ($x:expr; $first:tt $($rest:tt)*) => { twice!($x + $x; $($rest)*) };
}
fn answer() -> i32 {
    twice!(1; 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0)
}
