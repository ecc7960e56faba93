// Is a library, not a program.
// verdict: exception, early exit, compile error, forbidden
#![crate_type = "lib"]
fn answer() -> i32 {
    42
}
