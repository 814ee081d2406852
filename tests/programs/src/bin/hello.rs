//! Says hello: the least that a program of Rust's standard library does.

fn main() {
    println!("hello");
}
