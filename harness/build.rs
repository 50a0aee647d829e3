//! The corpus is embedded in the binary; a changed flow or schema must lead to a new one.

fn main() {
    println!("cargo::rerun-if-changed=../corpus");
    println!("cargo::rerun-if-changed=build.rs");
}
