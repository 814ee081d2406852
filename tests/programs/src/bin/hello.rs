//! Says hello: the least that a program of Rust's standard library does.

fn main() {
    println!("hello from {}", std::env::args().next().unwrap_or_default().rsplit('/').next().unwrap_or_default());
}
