//! The executable's own `getrandom` is for libraries, too, that look it up while they run.
fn main() {
    println!("cargo::rustc-link-arg=-rdynamic");
    println!("cargo::rerun-if-changed=build.rs");
}
