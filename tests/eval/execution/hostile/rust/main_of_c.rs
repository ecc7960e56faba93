// Has its own entry called in place of main.
// verdict: compile error
#![no_main]
#[no_mangle]
pub extern "C" fn main() -> i32 {
    0
}
fn answer() -> i32 {
    41
}
